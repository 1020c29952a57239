"""`onlineguard slidr train`: a model of the first part of a log."""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onlineguard.cli import clicks as shared
from onlineguard.cli.exits import one_line_errors
from onlineguard.cli.options import with_options

if TYPE_CHECKING:
    from onlineguard.slidr.learning.scorer import Scorer
    from onlineguard.slidr.pipeline import Config, Mask, Prepared

EPILOG = f"""{shared.TIMES}
By default, a model is trained on the first of the last three weeks of a log, or on the first half of a shorter log.

With --until alone, training begins with the log. With --since alone, it ends where it would by default.

[bold]Examples[/bold]

Three weeks of synthetic clicks: the first trains, the second sets the thresholds, the third is for measuring:

  [cyan]onlineguard simulate traffic[/cyan]

  [cyan]onlineguard slidr train traffic/clicks.parquet --out model[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model[/cyan]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --truth traffic/truth.parquet \
--report slidr.html[/cyan]

All of a log with other column names, with slices by device:

  [cyan]onlineguard slidr train log.csv.gz --mapping log.toml --slice device --until 100% --out model[/cyan]
"""


class KindName(StrEnum):
    mlp = "mlp"
    cross = "cross"
    embedding = "embedding"
    logistic = "logistic"
    velocity = "velocity"


@with_options
def train(
    clicks: shared.Clicks,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model is written. A model there is replaced.")],
    reading: shared.Reading,
    kind: Annotated[
        KindName,
        typer.Option(
            help="mlp: a network of three hidden layers. cross: with products of features. embedding: with user agent, "
            "ip prefix and ad. logistic, velocity: baselines."
        ),
    ] = KindName.mlp,
    slice_: Annotated[
        str, typer.Option("--slice", metavar="COLUMN[,COLUMN]", help="Fields of a click whose values make a slice.")
    ] = "device,marketplace,logged_in",
    *,
    part: shared.Part,
    rfm_at_least: Annotated[
        float, typer.Option(help="Accounts with at least this RFM score, 3 to 15, are people.")
    ] = 12.0,
    weights: Annotated[
        bool,
        typer.Option(help="Give each hour of the week the same weight, with and without login, for either label."),
    ] = True,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="FEATURE[,FEATURE]",
            help="Features that are not learned; '' for none.",
            show_default="lookups of accounts, users, user agents and ads",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and clicks give the same model.")] = 0,
) -> None:
    """Train a model on the first part of a log, with the labels known when that part ends."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.errors import CheckpointError
        from onlineguard.slidr.model import Model, Span, save_model
        from onlineguard.slidr.pipeline import Config, known_humans, split

        if out.exists() and not out.is_dir():
            raise CheckpointError(f"--out is {out}, which is a file; name a folder")
        runner.check_destinations(
            None, {"rejects": reading.rejects}, {"the source": clicks, "--mapping": reading.mapping}
        )
        columns = tuple(name.strip() for name in slice_.split(",") if name.strip())
        config = Config(kind=kind.value, slices=columns, rfm_at_least=rfm_at_least, weighted=weights, seed=seed)
        if leave_out is not None:
            left_out = tuple(name.strip() for name in leave_out.split(",") if name.strip())
            config = dataclasses.replace(config, left_out=left_out)
        prepared = shared.prepared_clicks(clicks, reading, config)
        parts = split(*prepared.bounds)
        usual_since = parts.train_since if part.until is None else None
        start, end = shared.used_span(prepared, part, usual_since, parts.train_until)
        rows = prepared.between(start, end)
        scorer = train_scorer(prepared, rows, end, config)
        trained = Span.of(start, end, rows, known_humans(prepared, end, config))
        model = save_model(out, Model(config, scorer, trained))
        words.say_what_is_held(scorer)
        console.say(
            f"learned from {trained.clicks:,} clicks, {trained.humans:,} of them known to be people's, "
            f"{words.times(trained)}",
            f"model {model.version}: {out}; "
            f"next: onlineguard slidr calibrate {words.log(clicks, reading.mapping)} --model {out}",
        )


def train_scorer(prepared: "Prepared", rows: "Mask", known_at: int, config: "Config") -> "Scorer":
    """The scorer trained on these rows with the labels known at that time, while a bar shows how far it is."""
    from onlineguard.cli import console
    from onlineguard.slidr.pipeline import train_model

    total = int(rows.sum())
    with console.progress(f"training {config.kind}", total, noun="clicks") as progress:
        scorer = train_model(prepared, rows, known_at, config, lambda done, _total, _loss: progress(done))
        progress(total)
    return scorer
