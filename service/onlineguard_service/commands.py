"""`onlineguard serve`, `worker` and `fleet`: parse, check, call. What they need is imported when they run."""

import gc
import importlib
import inspect
import os
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from onlineguard.cli.exits import one_line_errors
from onlineguard.errors import InvalidArgument
from onlineguard.extras import PACKAGES, require
from onlineguard_service import config
from onlineguard_service.cluster import commands as cluster
from onlineguard_service.environment import compute_in_one_thread

SERVE_EPILOG = """[bold]Settings[/bold]

A flag goes before the environment ([cyan]ONLINEGUARD_PORT[/cyan]), that before the table [cyan]\\[serve][/cyan] of \
the file of --config, that before the default. --show-config prints all of them, as such a file.

[bold]Examples[/bold]

On this machine, with a folder of its own for what is learned:

  [cyan]onlineguard serve[/cyan]

For a team: a model, keys, TLS, and counters shared in Redis:

  [cyan]onlineguard serve --new-key dashboard --scope score >> keys.toml[/cyan]

  [cyan]onlineguard serve --host 0.0.0.0 --model model --keys keys.toml --tls-cert cert.pem --tls-key key.pem \
--redis redis://db:6379/0[/cyan]

The same state with other features; what was learned of latency stays:

  [cyan]onlineguard serve --features latency,errors --other-features carry[/cyan]

Exit codes: 0 stopped by SIGTERM or Ctrl-C, with all that was under way finished; 2 wrong use.
"""

WORKER_EPILOG = """[bold]Examples[/bold]

Shards over Kafka; start as many of them as there are cores, up to the number of partitions:

  [cyan]onlineguard worker --from 'kafka://broker:9092/events?group=guards' --snapshots s3://bucket/guards \
--features ms,bytes --metrics-port 9100[/cyan]

Over Redis, in eight partitions, with a model for clicks:

  [cyan]onlineguard worker --from 'redis://db:6379/0?stream=clicks&partitions=8' --snapshots /shared/guards \
--model model[/cyan]

A worker that asks a service, which keeps all that is learned:

  [cyan]redis-cli XADD '{onlineguard}:clicks' '*' click '{"click_id": "1", ...}'[/cyan]

  [cyan]onlineguard worker --url http://127.0.0.1:8080[/cyan]

The API key, with scope update, is taken from ONLINEGUARD_API_KEY. Stops on SIGTERM after the batch under way. A \
worker of shards leaves snapshots then, and its partitions to the others.
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("serve", epilog=SERVE_EPILOG)(_with_settings())
    app.command("worker", epilog=WORKER_EPILOG)(worker)
    cluster.register(app, _of_shards(), _asked_of_actors)
    fleet = typer.Typer(no_args_is_help=True, help="The models and figures of several processes together.")
    fleet.command("status")(fleet_status)
    app.add_typer(fleet, name="fleet")


def serve(
    config_file: Path | None,
    show_config: bool,
    new_key: str | None,
    scope: list[str] | None,
    namespace: str | None,
    **flags: Any,
) -> None:
    """Answer updates and scores over HTTP, and keep what is learned.

    Without any setting it listens on this machine alone, keeps its state in a folder, and judges clicks by a model of \
simulated ones.
    """
    with one_line_errors():
        if new_key is not None:
            _print_new_key(new_key, scope or [], namespace or "")
            return
        for flag, given in (("--scope", scope), ("--namespace", namespace)):
            if given is not None:
                raise InvalidArgument(flag, "is for a key that --new-key makes; give both, or leave it out")
        loaded = config.load(flags, os.environ, config_file)
        if show_config:
            print(config.show(loaded), end="")
            return
        require("`onlineguard serve`", "serve")
        compute_in_one_thread()
        from onlineguard_service import logs, tracing
        from onlineguard_service.journal import snapshots
        from onlineguard_service.standing import Standing

        if loaded.settings.traces == "on":
            tracing.begin()
        logs.configure(loaded.settings.log_level)
        if loaded.settings.journal == "folder":
            snapshots.read_ahead(loaded.settings.state / "journal")
        # onlineguard_service.core imports JAX, and so comes after the environment
        gc.disable()  # nothing of what is imported ever goes
        server, core, programs = map(
            importlib.import_module,
            ("onlineguard_service.http.server", "onlineguard_service.core", "onlineguard.programs"),
        )
        gc.freeze()
        gc.enable()
        programs.begin()
        standing = Standing() if loaded.settings.standby == "on" else None
        opening = partial(core.Core.open, standing=standing)
        if loaded.settings.replica_of is not None:
            opening = importlib.import_module("onlineguard_service.replicas.replica").Replica.open
        code = server.run(loaded.settings, opening, standing)
        programs.end()
    raise typer.Exit(code)


ASKING, SHARDING = "A worker that asks a service (no --from)", "A worker of shards (--from)"
FROM, SNAPSHOTS = "ONLINEGUARD_FROM", "ONLINEGUARD_SNAPSHOTS"
_OPTIONS = (
    *("features", "n_features", "categories", "detector", "target_rate", "patience", "max_slices", "max_alarms"),
    *("max_entities", "remember", "follow_drift"),
)  # settings of `serve` that decide what a state is


def _asks(*flags: str, **told: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=ASKING, **told)


def _shards(*flags: str, **told: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=SHARDING, **told)


def _option(name: str) -> Any:
    default = config.default(name)
    told = config.about(name) + ("" if default is None else f" Default {default}.")
    panel, variable = "What shards learn, as `serve` has it", config.PREFIX + name.upper()
    return typer.Option(rich_help_panel=panel, envvar=variable, metavar=config.metavar(name), help=told)


def worker(
    source: Annotated[
        str | None, _shards("--from", envvar=FROM, help="URL of the log: kafka://host:9092/topic or redis://host:6379.")
    ] = None,
    to: Annotated[
        str | None, _shards(help="URL of the outputs, in the same Kafka or Redis; else beside the log.")
    ] = None,
    snapshots: Annotated[
        str | None, _shards(envvar=SNAPSHOTS, help="Folder or URL (s3://, gs://, abfs://) that all workers share.")
    ] = None,
    model: Annotated[Path | None, _shards(help="Folder of a model that decides from now on.")] = None,
    registry: Annotated[str | None, _shards(help="Registry of models, whose current version decides.")] = None,
    registry_every: Annotated[
        float | None, _shards(metavar="SECONDS", help="Between looks at the registry; else 30.")
    ] = None,
    counted: Annotated[
        bool, _shards(help="Whether replicas count clicks in Redis, and write them to the log.")
    ] = False,
    most: Annotated[int | None, _shards(help="Most records that are read at once; else 4,096.")] = None,
    snapshot_every: Annotated[
        float | None, _shards(metavar="SECONDS", help="Between snapshots of a shard; else 60.")
    ] = None,
    snapshot_records: Annotated[
        int | None, _shards(help="Records after which a snapshot comes sooner; else 1,000,000.")
    ] = None,
    metrics_port: Annotated[int | None, _shards(help="Port of /metrics, /livez and /readyz; else none.")] = None,
    metrics_host: Annotated[str | None, _shards(help="Address that /metrics listens on; else 127.0.0.1.")] = None,
    features: Annotated[str | None, _option("features")] = None,
    n_features: Annotated[str | None, _option("n_features")] = None,
    categories: Annotated[str | None, _option("categories")] = None,
    detector: Annotated[str | None, _option("detector")] = None,
    target_rate: Annotated[str | None, _option("target_rate")] = None,
    patience: Annotated[str | None, _option("patience")] = None,
    max_slices: Annotated[str | None, _option("max_slices")] = None,
    max_alarms: Annotated[str | None, _option("max_alarms")] = None,
    max_entities: Annotated[str | None, _option("max_entities")] = None,
    remember: Annotated[str | None, _option("remember")] = None,
    follow_drift: Annotated[str | None, _option("follow_drift")] = None,
    url: Annotated[
        str | None, _asks(help="URL of the service; else ONLINEGUARD_URL, else http://127.0.0.1:8080.")
    ] = None,
    redis: Annotated[
        str | None, _asks(help="URL of the Redis that holds the streams; else redis://127.0.0.1:6379/0.")
    ] = None,
    stream: Annotated[str | None, _asks(help="Stream of clicks that is read; else {onlineguard}:clicks.")] = None,
    output: Annotated[
        str | None, _asks("--out", help="Stream that decisions are written to; else {onlineguard}:decisions.")
    ] = None,
    dead: Annotated[
        str | None, _asks(help="Stream of clicks that cannot be answered, with reasons; else {onlineguard}:dead.")
    ] = None,
    group: Annotated[
        str | None, _asks(help="Consumer group; workers of one share the clicks. Else onlineguard.")
    ] = None,
    consumer: Annotated[str | None, _asks(help="This worker's name in the group; else made up.")] = None,
    batch: Annotated[int | None, _asks(help="Most clicks in a request, up to 1,000; else 64.")] = None,
    claim_after: Annotated[
        float | None, _asks(metavar="SECONDS", help="After which a dead worker's clicks are taken over; else 60.")
    ] = None,
    deliveries: Annotated[
        int | None, _asks(help="How often a click is tried before it goes to --dead; else 10.")
    ] = None,
    keep: Annotated[
        int | None,
        _asks(
            help="About how many entries each stream keeps; a click stays until it is answered, too. Else 1,000,000."
        ),
    ] = None,
    timeout: Annotated[float | None, _asks(metavar="SECONDS", help="How long to wait for an answer; else 10.")] = None,
    log_level: Annotated[str, typer.Option(help="Least level that is logged: debug, info, warning, error.")] = "info",
) -> None:
    """Judge the events and clicks of a log, or have a service judge the clicks of a Redis stream.

    With --from it is one of the processes that share a partitioned log in Kafka or Redis. Each keeps what the slices \
of its partitions have taught, and publishes verdicts and alarms. Without it, it asks a service.
    """
    given = {name: v for name, v in locals().items() if v is not None and v is not False and name != "log_level"}
    sharding = source is not None
    with one_line_errors():
        settings = config.load(
            {"log_level": log_level, **{n: given.pop(n) for n in _OPTIONS if n in given}}, {}
        ).settings
        if sharding:
            _work_shards(settings, given)
        else:
            _ask_service(settings, given)


def fleet_status(
    urls: Annotated[
        list[str], typer.Argument(metavar="URL...", help="URLs of services, and of workers at their --metrics-port.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Print which models decide where, and IVR, FPR and coverage of all clicks together.

    The figures are sums over the workers of all shards, or over all services behind a router: name each of them \
once. Of replicas it tells models, trials and the age of their snapshots. The API key, with scope score, is taken from \
ONLINEGUARD_API_KEY.
    """
    import msgspec

    from onlineguard_service import fleet

    with one_line_errors():
        found = fleet.status(urls, os.environ.get("ONLINEGUARD_API_KEY"))
        print(msgspec.json.encode(found).decode() if as_json else fleet.shown(found))


def _work_shards(options: config.Settings, given: dict[str, Any]) -> None:
    settings = _shard_settings("`onlineguard worker --from`", options, given)
    print(importlib.import_module("onlineguard_service.shards.running").run(settings))


def _shard_settings(part: str, options: config.Settings, given: dict[str, Any]) -> Any:
    if "snapshots" not in given:
        raise InvalidArgument("--snapshots", "is not given; name a folder, or a URL, that all workers share")
    require(part, "serve")
    compute_in_one_thread()
    from onlineguard_service import logs

    logs.configure(options.log_level)
    module, recovery = (  # they import JAX, and so come after the environment
        importlib.import_module("onlineguard_service.shards.running"),
        importlib.import_module("onlineguard_service.recovery"),
    )
    known = {"counted", *(each.name for each in fields(module.ShardSettings))}
    if others := sorted(given.keys() - known):
        raise InvalidArgument(_flag(others[0]), "is for a worker that asks a service; leave it out, or --from")
    chosen = recovery.options_of(options, counting="counted" not in given)
    rest = {name: value for name, value in given.items() if name != "counted"}
    return _checked(module.ShardSettings, {**rest, "options": chosen})


def _of_shards() -> list[inspect.Parameter]:
    """The flags of a worker of shards, which an actor takes too."""
    return [
        each
        for each in inspect.signature(worker).parameters.values()
        if each.annotation.__metadata__[0].rich_help_panel != ASKING
    ]


def _asked_of_actors(given: dict[str, Any]) -> tuple[config.Settings, dict[str, Any]]:
    """Those flags, read and checked: what decides what shards learn, and the other fields of `ShardSettings`."""
    given = {name: value for name, value in given.items() if value is not None}
    if "source" not in given:
        raise InvalidArgument("--from", "is not given; name the log, e.g. kafka://broker:9092/events")
    options = config.load({n: given.pop(n) for n in (*_OPTIONS, "log_level") if n in given}, {}).settings
    _shard_settings("`onlineguard cluster`", options, given)
    for name in ("snapshots", "registry", "model"):  # actors run in other folders
        if name in given and "://" not in (where := str(given[name])):
            given[name] = type(given[name])(os.path.abspath(where))
    return options, given


def _ask_service(options: config.Settings, given: dict[str, Any]) -> None:
    require("`onlineguard worker`", "serve", PACKAGES["client"] + PACKAGES["redis"])
    from onlineguard_service import logs

    logs.configure(options.log_level)
    module = importlib.import_module("onlineguard_service.redis.worker")
    known = {each.name for each in fields(module.WorkerSettings)}
    if others := sorted(given.keys() - known):
        raise InvalidArgument(_flag(others[0]), "is for a worker of shards; give --from too, or leave it out")
    print(module.run(_checked(module.WorkerSettings, given)))


def _checked(kind: Any, given: dict[str, Any]) -> Any:
    """The settings; an error names the flag."""
    try:
        return kind(**given)
    except InvalidArgument as error:
        if error.argument is None:
            raise
        raise InvalidArgument(_flag(error.argument), error.problem) from None


def _flag(name: str) -> str:
    return {"output": "--out", "source": "--from"}.get(name, "--" + name.replace("_", "-"))


def _with_settings() -> Any:
    """`serve` with a flag for every setting, from what service/config.py says of it."""

    def parameter(name: str, kind: Any, default: Any, *flags: str, **told: Any) -> inspect.Parameter:
        annotation = Annotated[kind, typer.Option(*flags, **told)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    parameters = [
        parameter("config_file", Path | None, None, "--config", metavar="FILE", help="TOML file of settings."),
        *(
            parameter(
                name,
                str | None,
                None,
                "--" + name.replace("_", "-"),
                metavar=config.metavar(name),
                help=config.about(name) + (f" Default {told}." if (told := config.default(name)) is not None else ""),
            )
            for name in config.FIELDS
        ),
        parameter("show_config", bool, False, "--show-config", help="Print all settings and where they come from."),
        parameter("new_key", str | None, None, "--new-key", metavar="NAME", help="Make an API key, and leave."),
        parameter("scope", list[str] | None, None, "--scope", help="What a new key may: score, update, admin; repeat."),
        parameter("namespace", str | None, None, "--namespace", metavar="NAME", help="What a new key is confined to."),
    ]

    def command(**given: Any) -> None:
        serve(**given)

    command.__doc__ = serve.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _print_new_key(name: str, scopes: list[str], namespace: str) -> None:
    """The key on standard error, where it is seen once; what belongs in the file on standard output."""
    from onlineguard_service.http.auth import new_key

    key, lines = new_key(name, scopes, namespace)
    typer.echo(f"the key of {name}, shown this once: {key}\nadd the lines below to the file of --keys:", err=True)
    typer.echo(lines)
