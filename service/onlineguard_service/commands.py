"""`onlineguard serve` and `onlineguard worker`: parse, check, call. What they need is imported when they run."""

import gc
import importlib
import inspect
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from onlineguard.cli.exits import one_line_errors
from onlineguard.errors import InvalidArgument
from onlineguard.extras import PACKAGES, require
from onlineguard_service import config

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

WORKER_EPILOG = """[bold]Example[/bold]

  [cyan]redis-cli XADD '{onlineguard}:clicks' '*' click '{"click_id": "1", ...}'[/cyan]

  [cyan]onlineguard worker --url http://127.0.0.1:8080[/cyan]

The API key, with scope update, is taken from ONLINEGUARD_API_KEY. Stops on SIGTERM after the batch under way.
"""

# Before JAX and BLAS are loaded: one thread each, for the requests, so that no pool of threads takes turns with them.
ENVIRONMENT = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def register(app: typer.Typer) -> None:
    """Add both commands to the command line."""
    app.command("serve", epilog=SERVE_EPILOG)(_with_settings())
    app.command("worker", epilog=WORKER_EPILOG)(worker)


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
        loaded = config.load(flags, os.environ, config_file)
        if show_config:
            print(config.show(loaded), end="")
            return
        require("`onlineguard serve`", "serve")
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
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
        code = server.run(loaded.settings, partial(core.Core.open, standing=standing), standing)
        programs.end()
    raise typer.Exit(code)


def worker(
    url: Annotated[str | None, typer.Option(help="Of the service; else ONLINEGUARD_URL, else port 8080 here.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of the Redis that holds the streams.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream of clicks that is read.")] = None,
    output: Annotated[str | None, typer.Option("--out", help="Stream that decisions are written to.")] = None,
    dead: Annotated[str | None, typer.Option(help="Stream of entries that cannot be answered, with reasons.")] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group; workers of one share the clicks.")] = None,
    consumer: Annotated[str | None, typer.Option(help="This worker's name in the group; else made up.")] = None,
    batch: Annotated[int | None, typer.Option(help="Most clicks in a request.")] = None,
    claim_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="After which a dead worker's clicks are taken over.")
    ] = None,
    deliveries: Annotated[int | None, typer.Option(help="How often an entry is tried.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Entries that each stream keeps; a click also stays until it is answered.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="To wait for an answer.")] = None,
    log_level: Annotated[str, typer.Option(help="Least level that is logged: debug, info, warning, error.")] = "info",
) -> None:
    """Read clicks from a Redis stream, have the service judge them, and publish the decisions."""
    given = {name: value for name, value in locals().items() if value is not None and name != "log_level"}
    with one_line_errors():
        checked = config.load({"log_level": log_level}, {}).settings
        require("`onlineguard worker`", "serve", PACKAGES["client"] + PACKAGES["redis"])
        from onlineguard_service import logs

        logs.configure(checked.log_level)
        module = importlib.import_module("onlineguard_service.redis.worker")
        try:
            settings = module.WorkerSettings(**given)
        except InvalidArgument as error:
            if error.argument is None:
                raise
            flag = "--out" if error.argument == "output" else "--" + error.argument.replace("_", "-")
            raise InvalidArgument(flag, error.problem) from None
        print(module.run(settings))


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
