"""`onlineguard cluster`: parse, call, print. Ray is imported when a command runs."""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli.exits import one_line_errors
from onlineguard.extras import require

if TYPE_CHECKING:
    from onlineguard_service.cluster.placing import Actor
    from onlineguard_service.config import Settings

ABOUT = """Shards as actors of Ray, which places, restarts and scales them.

It takes what `onlineguard worker --from` takes, and the same answers come of it. Every node needs onlineguard with \
the extras ray and serve, and that of the log. Start Ray before, e.g. by \
[cyan]RAY_USAGE_STATS_ENABLED=0 ray start --head[/cyan].
"""

EPILOG = """[bold]Examples[/bold]

  [cyan]onlineguard cluster start --shards 4 --from 'kafka://broker:9092/events?group=guards' \
--snapshots s3://bucket/guards --features ms,bytes[/cyan]

  [cyan]onlineguard cluster rescale --shards 6 --address ray://head:10001[/cyan]

Exit codes: 0 all actors are ready; 1 some are not, and the table says why; 2 wrong use.
"""

Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        help="Of the Ray cluster: ray://head:10001 from elsewhere, head:6379 or auto on one of its nodes; else auto.",
    ),
]
Name = Annotated[str, typer.Option(help="Name of the deployment; several may share a cluster.")]
Shards = Annotated[int, typer.Option(help="Actors that share the partitions; more than partitions are idle.")]
Targets = Annotated[
    bool,
    typer.Option("--targets", help="Print where metrics are served instead, as JSON for Prometheus' file_sd_configs."),
]
Wait = Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait until all actors are ready.")]
CPUs = Annotated[float, typer.Option(help="CPUs that Ray reserves for an actor.")]
GPUs = Annotated[float, typer.Option(help="GPUs that Ray reserves for an actor, which then computes there.")]


def register(
    app: typer.Typer,
    of_worker: Sequence[inspect.Parameter],
    checked: Callable[[dict[str, Any]], "tuple[Settings, dict[str, Any]]"],
) -> None:
    """Add the commands. `of_worker` are the flags of `onlineguard worker` that actors take, `checked` reads them."""
    cluster = typer.Typer(no_args_is_help=True, help=ABOUT, epilog=EPILOG, rich_markup_mode="rich")
    cluster.command("start")(_start(of_worker, checked))
    cluster.command()(status)
    cluster.command()(rescale)
    cluster.command()(stop)
    app.add_typer(cluster, name="cluster")


def status(address: Address = None, name: Name = "onlineguard", targets: Targets = False) -> None:
    """Actors, their nodes and partitions, how far behind they are and how fast."""
    with one_line_errors():
        placing = _placing()
        with placing.connected(address, name):
            found = placing.status()
    if targets:
        print(json.dumps(_targets(found)))
    else:
        _show(found)


def rescale(shards: Shards, address: Address = None, name: Name = "onlineguard", wait: Wait = 120.0) -> None:
    """Have more actors or fewer; partitions move with their snapshots, and nothing is lost or done twice."""
    with one_line_errors():
        placing = _placing()
        with placing.connected(address, name):
            placing.rescale(shards)
            found = placing.wait(wait)
    _show(found)


def stop(address: Address = None, name: Name = "onlineguard") -> None:
    """Have all actors leave snapshots, and end them. The log and the snapshots stay."""
    with one_line_errors():
        placing = _placing()
        with placing.connected(address, name):
            placing.stop()


def _start(of_worker: Sequence[inspect.Parameter], checked: Callable[[dict[str, Any]], Any]) -> Any:
    """`start`, with the flags of a worker."""

    def start(shards: int, address: str | None, name: str, wait: float, cpus: float, gpus: float, **flags: Any) -> None:
        """Start actors, and leave when all are ready. They stay until `onlineguard cluster stop`."""
        with one_line_errors():
            options, flags = checked(flags)
            placing = _placing()
            with placing.connected(address, name):
                resources = {"num_cpus": cpus} | ({"num_gpus": gpus} if gpus else {})
                placing.start(shards, placing.Asked(options, flags, resources))
                found = placing.wait(wait)
        _show(found)

    own = {
        "shards": (Shards, 1),
        "address": (Address, None),
        "name": (Name, "onlineguard"),
        "wait": (Wait, 120.0),
        "cpus": (CPUs, 1.0),
        "gpus": (GPUs, 0.0),
    }
    alone = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(inspect.Parameter(name, alone, default=default, annotation=kind) for name, (kind, default) in own.items()),
        *(each.replace(kind=alone) for each in of_worker),
    ]
    start.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    start.__annotations__ = {each.name: each.annotation for each in parameters}
    return start


def _placing() -> Any:
    require("`onlineguard cluster`", "ray")
    from onlineguard_service.cluster import placing

    return placing


def _show(actors: "Sequence[Actor]") -> None:
    from onlineguard.cli.console import print_rows, say  # which imports NumPy

    print_rows("Actors", [_row(actor) for actor in actors])
    if not actors:
        say("no actor of this deployment is there")
    say(*(f"{actor.name}: {actor.reason}" for actor in actors if actor.reason))
    if not actors or any(actor.reason for actor in actors):
        raise typer.Exit(1)


def _targets(actors: "Sequence[Actor]") -> list[dict[str, Any]]:
    """Those that serve metrics, each with its name."""
    return [
        {"targets": [actor.told.metrics], "labels": {"actor": actor.name}}
        for actor in actors
        if actor.told is not None and actor.told.metrics is not None
    ]


def _row(actor: "Actor") -> dict[str, str]:
    told = actor.told
    if told is None:
        figures = ["?"] * 7
    else:
        figures = [
            f"{told.address} {told.node[:8]}",
            f"{told.pid}",
            ",".join(map(str, told.partitions)) or "none",
            f"{told.lag:.1f} s",
            f"{told.rate:,.0f}",
            f"{told.restarts}",
            told.metrics or "none",
        ]
    headings = ("node", "pid", "partitions", "lag", "records/s", "restarts", "metrics")
    return {"actor": actor.name, **dict(zip(headings, figures, strict=True))}
