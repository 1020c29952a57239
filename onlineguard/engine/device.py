"""Where an Engine keeps its table and steps its events: on the CPU, on an accelerator, or on whichever is quicker.

A call costs an accelerator the same however few its events are, and a CPU some time for each event. So with
`device="auto"` and an accelerator at hand the table lies on the CPU while calls are small, and moves to the accelerator
for large ones, as it is divided among cores on a machine without one. `Engine.warmup` measures from how many events on
a call is large.

Several accelerators have a part of the table each, as cores have.

An accelerator steps events by the kernel, where it is an NVIDIA GPU and the model's step can be put into one, and by
rounds otherwise. Answers differ from the CPU's by a few ulps, since sums are rounded in another order.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from onlineguard.core.protocols import Array
from onlineguard.engine import rounds, table
from onlineguard.engine.batches import LARGEST_BATCH, SMALLEST_BATCH
from onlineguard.engine.parts import cores
from onlineguard.engine.table import Layout
from onlineguard.errors import InvalidArgument
from onlineguard.plugins import devices

DEVICES = ("auto", "cpu", "gpu")
# On an accelerator every size is a kernel to compile, for a quarter of a minute. As many events are run at once there
# as have so many numbers (2 GB), and are a power of four.
SMALLEST_BATCH_AWAY, LARGEST_AWAY = 4_096, 2**29


@dataclass(frozen=True)
class Accelerator:
    """The devices that JAX prefers to the CPU, all of one kind."""

    devices: tuple[Any, ...]  # jax.Device
    platform: str  # such as gpu or tpu
    takes_kernels: bool
    interprets: bool = False  # the kernels, in plain JAX, on any machine


@dataclass(frozen=True, eq=False)
class Place:
    """Where a table lies, in how many parts, and what steps events there."""

    name: str
    advance: Callable[..., tuple[Array, Array]]  # see `table.advance`
    predicted: Callable[..., Array] = table.predicted
    parts: int = 1
    devices: tuple[Any, ...] = (None,)  # jax.Device, None for the one that JAX prefers; each has a part in turn
    smallest: int = SMALLEST_BATCH  # events that fewer are padded to
    largest: int = LARGEST_BATCH  # events that are run at once

    def put(self, tree: Any) -> list[Any]:
        """Arrays, brought to each of the devices."""
        return [tree if device is None else jax.device_put(tree, device) for device in self.devices]

    @property
    def away(self) -> bool:
        """Whether it is on an accelerator."""
        return self.smallest == SMALLEST_BATCH_AWAY


class Schedule:
    """What steps events on an accelerator. It is chosen at the first call, since making a kernel takes seconds."""

    def __init__(self, accelerator: Accelerator, params: Any, layout: Layout, columns: int):
        self._accelerator, self._model = accelerator, (params, layout, columns)

    def __call__(self, *args: Any) -> tuple[Array, Array]:
        return self._advance(*args)

    @functools.cached_property
    def refusal(self) -> str | None:
        """Why it is not the kernel; None if it is."""
        if not self._accelerator.takes_kernels:
            return f"{self._accelerator.devices[0].device_kind} takes none"
        from onlineguard.engine import kernel  # the kernel language takes long to import, and no CPU needs it

        return kernel.refusal(*self._model)

    @functools.cached_property
    def _advance(self) -> Callable[..., tuple[Array, Array]]:
        if self.refusal is not None:
            return rounds.advance
        from onlineguard.engine import kernel

        return functools.partial(kernel.advance, interpret=self._accelerator.interprets)

    @functools.cached_property
    def _traced(self) -> list[Callable[..., tuple[Array, Array]]]:
        from onlineguard.engine import kernel

        def run(learns: bool, params: Any, layout: Layout, *args: Any) -> tuple[Array, Array]:
            return kernel.run(params, layout, learns, self._accelerator.interprets, *args)

        return [functools.partial(run, learns) for learns in (False, True)]

    def traced(self, learns: bool) -> Callable[..., tuple[Array, Array]] | None:
        """The same as a part of another program, for events that are learned or only scored; None if it cannot be."""
        return None if self.refusal is not None else self._traced[learns]

    def __str__(self) -> str:
        return "the kernel" if self.refusal is None else f"rounds, since {self.refusal}"


def places(device: str, most_cores: int | None, params: Any, layout: Layout, columns: int) -> tuple[Place, Place]:
    """Where small calls are stepped, and where large ones. `device` is one of DEVICES, see `checked_device`."""
    found = accelerator()
    home = None if found is None else _cpu()
    many = cores() if most_cores is None else most_cores
    small = Place("cpu", table.advance, devices=(home,))
    large = small if many == 1 else Place(f"cpu, {many} cores", table.advance, parts=many, devices=(home,))
    if found is None or device == "cpu":
        return small, large
    schedule = Schedule(found, params, layout, columns)
    kind, count = found.devices[0].device_kind, len(found.devices)
    largest = max(SMALLEST_BATCH_AWAY, 4 ** (((LARGEST_AWAY // columns).bit_length() - 1) // 2))
    one = Place(kind, schedule, rounds.predicted, 1, found.devices[:1], SMALLEST_BATCH_AWAY, largest)
    all_ = replace(one, name=f"{count} of {kind}", parts=count, devices=found.devices) if count > 1 else one
    return (one if device == "gpu" or home is None else small), all_


def checked_device(device: Any) -> str:
    """Raises InvalidArgument unless it is one of DEVICES, and there."""
    if device not in DEVICES:
        raise InvalidArgument("device", f"is {device!r}; it must be one of {', '.join(map(repr, DEVICES))}")
    found = accelerator()
    if device == "gpu" and (found is None or found.platform != "gpu"):
        kinds = ", ".join(sorted({each.platform for each in devices()}))
        raise InvalidArgument(
            "device",
            f"is 'gpu', and JAX finds only: {kinds}; install a driver and 'onlineguard[gpu]', or leave it at 'auto'",
        )
    if device == "cpu" and found is not None and _cpu() is None:
        raise InvalidArgument("device", "is 'cpu', and JAX was told to leave it out; add it to JAX_PLATFORMS")
    return device


def available(device: str) -> str:
    """The device that was chosen on another machine, or "auto" where this one has none such."""
    try:
        return checked_device(device)
    except InvalidArgument:
        return "auto"


def accelerator() -> Accelerator | None:
    """The devices that JAX prefers, unless that is the CPU."""
    first = devices()[0]
    if first.platform == "cpu":
        return None
    nvidia = first.platform == "gpu" and "rocm" not in first.client.platform_version.lower()
    return Accelerator(tuple(jax.local_devices()), first.platform, nvidia)


@functools.cache
def home() -> Any:
    """The CPU as a device, for programs that are none for an accelerator; None where JAX prefers the CPU anyway."""
    return None if accelerator() is None else _cpu()


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
