"""Programs that a service keeps as they were compiled, so that its next start neither traces nor compiles them.

JAX's persistent cache (`onlineguard.compilation`) saves compiling. But JAX finds an entry there by what a program was
lowered to, and to trace and lower takes longer than to load what was compiled. So `serve` keeps each `Program` a second
time, under what determines it before it is traced: its name, the layout and the shapes of what it is given, the sources
of this package, the versions and settings of JAX and NumPy, and the processor. It is the very executable that was
compiled, so no bit of an answer depends on where it came from.

Only `serve` calls `begin`. Everywhere else a `Program` is what `jax.jit` gives, since code outside this package, and
tests that replace a constant, could change what a program does without any of that being another.

A file that is damaged, or of anything else than what runs now, is passed over, and the program is compiled as ever. JAX
keeps an executable in a pickle. Nothing is read from a folder that another user could write; see `keep_programs`.
"""

import dataclasses
import hashlib
import logging
import math
import os
import platform
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jaxlib.version
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable

from onlineguard.compilation import keep_programs

FOLDER = "whole"  # inside that of `keep_programs`
OTHERS = 3  # versions, settings or processors whose programs stay beside those of now: the ones used last
LONGEST = 3.0  # seconds that a service takes to write the rest when it stops
DIGEST = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


class Program:
    """A function under `jax.jit`. Its arguments are arrays, and static ones that can be hashed.

    of: what the function is made of besides its arguments, such as the layout that it closes over.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: Sequence[int] = (),
        donate_argnums: Sequence[int] = (),
        of: Sequence[Hashable] = (),
    ):
        self._function, self._static, self._of = function, tuple(static_argnums), tuple(of)
        self._options: dict[str, Any] = {"static_argnums": self._static, "donate_argnums": tuple(donate_argnums)}
        self._jit = jax.jit(function, **self._options)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._found: dict[Hashable, Callable[..., Any]] = {}
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self._jit(*args) if _Kept.folder is None else self.at(*args)(*args)

    def at(self, *args: Any) -> Callable[..., Any]:
        """What runs with these arguments, and with all others of their types and shapes: for calls that must be quick.

        The static arguments are given to it again, and must be equal to these.
        """
        if _Kept.folder is None:
            return self._jit
        given = tuple(arg for i, arg in enumerate(args) if i not in self._static)
        leaves, tree = jax.tree.flatten(given)
        if any(isinstance(leaf, Tracer) or not hasattr(leaf, "dtype") for leaf in leaves):
            return self._jit
        statics = tuple(args[i] for i in self._static)
        shapes = tuple((leaf.shape, leaf.dtype.name) for leaf in leaves)
        key = (statics, tree, shapes)
        run = self._found.get(key)
        if run is None:
            name = _text((self._name, self._of, statics, tree, shapes))
            run = self._jit if name is None else self._without_statics(self._brought(name, args, given))
            self._found[key] = run
        return run

    @property
    def n_compiled(self) -> int:
        """How many shapes of arguments JAX has compiled it for in this process."""
        return self._jit._cache_size()  # type: ignore[attr-defined]

    def _brought(self, name: str, args: tuple[Any, ...], given: tuple[Any, ...]) -> Callable[..., Any]:
        """The executable that is kept under a name; otherwise it is compiled, and kept."""
        path = _Kept.path_of(name)
        found = _loaded(path, given)
        if found is None:
            before = _Kept.misses()
            found = self._jit.lower(*args).compile()
            fresh = _Kept.misses() > before
            shapes = tuple(arg if i in self._static else _shapes_of(arg) for i, arg in enumerate(args))
            _Kept.later(partial(self._keep, path, found if fresh else None, shapes))
        return found

    def _keep(self, path: Path, compiled: Any, shapes: tuple[Any, ...]) -> None:
        """Write an executable, which must not be one that JAX has loaded: of those a part is lost."""
        if compiled is None:  # JAX's cache had it, but has nothing under another name
            if _Kept.until < math.inf:
                return

            def anew(*args: Any) -> Any:
                return self._function(*args)

            anew.__name__ = f"{self._function.__name__}_{secrets.token_hex(4)}"
            before = _Kept.misses()
            compiled = jax.jit(anew, **self._options).lower(*shapes).compile()
            if _Kept.misses() == before:
                return
        written, _, out_tree = serialize_executable.serialize(compiled)
        n = out_tree.num_leaves
        if out_tree not in (_out_tree(0), _out_tree(n)):
            return
        contents = bytes([0 if out_tree == _out_tree(0) else n]) + zlib.compress(written, 1)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without a sync, which may take long: what a power cut leaves of it is seen to be damaged.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(hashlib.sha256(contents).digest() + contents)
        temporary.replace(path)

    def _without_statics(self, compiled: Callable[..., Any]) -> Callable[..., Any]:
        if not self._static:
            return compiled
        if self._static == (1,):  # quicker than the general way
            return lambda first, _, *rest: compiled(first, *rest)
        return lambda *args: compiled(*(arg for i, arg in enumerate(args) if i not in self._static))


def program(static_argnums: Sequence[int] = (), donate_argnums: Sequence[int] = ()) -> Callable[..., Program]:
    """Decorator that makes a `Program` of a function."""
    return lambda function: Program(function, static_argnums, donate_argnums)


def begin() -> None:
    """Keep programs from now on, and use those that are kept, where there is a folder and the CPU steps events."""
    folder = keep_programs()
    devices = jax.devices()
    if folder is None or len(devices) > 1 or devices[0].platform != "cpu" or not (processor := _processor()):
        return
    kept = folder / FOLDER
    _Kept.folder = kept / _digest(_environment(processor))
    jax.monitoring.register_event_listener(_Kept.heard)
    with suppress(OSError):
        os.utime(_Kept.folder)
    with suppress(OSError):
        others = [each for each in kept.iterdir() if each != _Kept.folder]
        for each in sorted(others, key=lambda each: each.stat().st_mtime)[:-OTHERS]:
            shutil.rmtree(each, ignore_errors=True)


def write() -> None:
    """Write what was compiled until now, and from now on what is, in a thread: not while somebody waits for a start."""
    if _Kept.folder is not None and _Kept.thread is None:
        _Kept.thread = ThreadPoolExecutor(1, "onlineguard-programs")
        waiting, _Kept.waiting = _Kept.waiting, []
        for keep in waiting:
            _Kept.later(keep)


def keeping() -> bool:
    """Whether this thread writes programs, and compiles some a second time for that; nobody waits for it."""
    return getattr(_Kept.counts, "keeping", False)


def end() -> None:
    """Write the rest, for `LONGEST` seconds, and nothing more; nothing is compiled once more for that."""
    _Kept.until = time.monotonic() + LONGEST
    if _Kept.thread is not None:
        _Kept.thread.shutdown()


class _Kept:
    """Where programs are kept, and the thread that writes them."""

    folder: Path | None = None
    counts = threading.local()
    thread: ThreadPoolExecutor | None = None
    until = math.inf  # by the monotonic clock
    waiting: ClassVar[list[Callable[[], None]]] = []  # until there is a thread

    @classmethod
    def path_of(cls, name: str) -> Path:
        assert cls.folder is not None
        return cls.folder / _digest(name)

    @classmethod
    def later(cls, keep: Callable[[], None]) -> None:
        def kept() -> None:
            cls.counts.keeping = True
            try:
                if time.monotonic() < cls.until:
                    keep()
            except Exception as error:  # the next start compiles as this one did
                _log.debug("a program is not kept: %s", error)

        if cls.thread is None:
            cls.waiting.append(keep)
            return
        with suppress(RuntimeError):  # it has ended
            cls.thread.submit(kept)

    @classmethod
    def heard(cls, event: str, **kwargs: str | int) -> None:
        if event == "/jax/compilation_cache/cache_misses":
            cls.counts.misses = cls.misses() + 1

    @classmethod
    def misses(cls) -> int:
        """How many programs JAX has compiled, and not loaded, in this thread."""
        return getattr(cls.counts, "misses", 0)


def _loaded(path: Path, given: tuple[Any, ...]) -> Any:
    """The executable in a file, or None."""
    try:
        whole = path.read_bytes()
        contents = memoryview(whole)[DIGEST:]
        if hashlib.sha256(contents).digest() != whole[:DIGEST]:
            return None
        in_tree = jax.tree.structure((given, {}))
        written = zlib.decompress(contents[1:])
        return serialize_executable.deserialize_and_load(written, in_tree, _out_tree(contents[0]))
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever it is, the program is compiled
        _log.debug("the program in %s cannot be loaded: %s", path, error)
        return None


def _out_tree(n: int) -> Any:
    """That of n arrays, or of one that is no tuple for 0."""
    return jax.tree.structure((0,) * n if n else 0)


def _shapes_of(arg: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arg)


def _text(value: Any) -> str | None:
    """All that a value is made of, the same in every process; None where that cannot be said."""
    if value is None or isinstance(value, str | int | float | np.dtype):
        return repr(value)
    if isinstance(value, jax.tree_util.PyTreeDef):
        parts = (value.node_data(), value.children(), value.num_leaves)
    elif isinstance(value, type):
        own = value.__module__ == "builtins" or value.__module__.partition(".")[0] == __name__.partition(".")[0]
        return f"{value.__module__}.{value.__qualname__}" if own else None
    elif dataclasses.is_dataclass(value):
        parts = (type(value), [getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, tuple | list):
        parts = value if type(value) in (tuple, list) else (type(value), tuple(value))
    else:
        return None
    texts = [_text(part) for part in parts]
    return None if None in texts else f"({','.join(map(str, texts))})"


def _environment(processor: str) -> str:
    """What compiling depends on besides the program."""
    package = Path(__file__).parent
    sources: list[tuple[str, int, int]] = []
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                about = os.stat(path := os.path.join(folder, name))
                sources.append((os.path.relpath(path, package), about.st_size, about.st_mtime_ns))
    settings = sorted((name, repr(value)) for name, value in jax.config.values.items() if "cache" not in name)
    versions = (jax.__version__, jaxlib.version.__version__, np.__version__, platform.python_version())
    flags = os.environ.get("XLA_FLAGS", "")
    return repr((versions, processor, flags, settings, sorted(sources)))


def _processor() -> str:
    """The machine's processor and its features; empty where they are not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return ""
    told = ("vendor_id", "model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(line for line in lines if line.startswith(told))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
