"""`onlineguard slidr evaluate`: what a calibrated model is worth."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onlineguard.cli import clicks as shared
from onlineguard.cli.exits import one_line_errors
from onlineguard.cli.options import with_options
from onlineguard.cli.train import train_scorer

if TYPE_CHECKING:
    from onlineguard.slidr.model import Span
    from onlineguard.slidr.pipeline import Prepared

EPILOG = f"""{shared.TIMES}
Without --since, measuring begins where the calibration ended. Without --until, it ends with the log.

[bold]Examples[/bold]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --report slidr.html --json slidr.json[/cyan]

Compared with logistic regression, the velocity rule, gradient-boosted trees, and the model without sample weights. \
All are trained and calibrated on the model's own clicks, which the log must hold:

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --baselines[/cyan]
"""


@with_options
def evaluate(
    clicks: shared.Clicks,
    folder: shared.ModelFolder,
    reading: shared.Reading,
    part: shared.Part,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The simulator's table of click_id and robot; with it the true recall and FPR are shown.",
        ),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Compare with baselines; takes minutes.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML report.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
) -> None:
    """Measure a calibrated model on clicks it has not seen: IVR, FPR and coverage with intervals, slice by slice."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.evaluation.evaluation import compare
        from onlineguard.slidr.model import load_model
        from onlineguard.slidr.workflow import measure, measure_baselines, read_truth

        written = {"report": report, "json": json_, "rejects": reading.rejects}
        runner.check_destinations(None, written, {"the source": clicks, "--mapping": reading.mapping, "--truth": truth})
        if truth is not None and clicks.is_dir():
            raise InvalidArgument(
                f"--truth names clicks by their ids, and of the history {clicks} only hashes of ids "
                "are held; leave it out, or give the log"
            )
        model = load_model(folder)
        thresholds, calibrated = shared.thresholds_of(model, folder)
        prepared = shared.prepared_clicks(clicks, reading, model.config, model)
        start, end = shared.used_span(prepared, part, calibrated.until, None)
        words.warn_of_reuse(start, calibrated, "calibrated on")
        words.warn_of_weekdays((calibrated.since, calibrated.until), (start, end))
        rows = prepared.between(start, end)
        robot = None if truth is None else read_truth(truth, prepared)
        measured = measure(prepared, model.scorer, thresholds, rows, end, model.config, robot)
        evaluations, hourly = {model.config.kind: measured}, None
        if baselines:
            _check_that_the_log_holds(prepared, model.trained, calibrated)
            train = partial(train_scorer, prepared)
            others = measure_baselines(prepared, model, calibrated, rows, end, train, robot)
            evaluations |= others.evaluations
            hourly = others.hourly or None
        console.print_rows(words.which(prepared, rows, (start, end), model, calibrated), measured.table(words.SHOWN))
        if (unseen := measured.unseen()) is not None:
            console.say(f"beware: {unseen}")
        comparison = compare(evaluations) if baselines else None
        if comparison is not None:
            console.print_rows("Beside other scorers, trained and calibrated alike", comparison)
        facts = {
            "Model": f"{model.version}, {model.config.kind}",
            "Trained on": f"{model.trained.clicks:,} clicks, {model.trained.humans:,} known people's, "
            + words.times(model.trained),
            "Calibrated on": f"{calibrated.clicks:,} clicks, {calibrated.humans:,} purchasing, "
            + words.times(calibrated),
            "Evaluated on": f"{int(rows.sum()):,} clicks of {clicks.name}",
            "Slices": " / ".join(model.config.slices),
            "Seed": str(model.config.seed),
        }
        if report is not None:
            from onlineguard.slidr.evaluation.report import Extras, write_report

            extras = Extras(hourly, comparison, getattr(model.scorer, "losses", None))
            write_report(report, measured, f"Robots among the clicks of {clicks.name}", facts, extras)
            console.say(f"report: {report}")
        if json_ is not None:
            plain = {
                "facts": facts,
                "scorers": {name: evaluation.to_dict() for name, evaluation in evaluations.items()},
            }
            shared.write_file(json_, lambda path: path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8"))
            console.say(f"json: {json_}")


def _check_that_the_log_holds(prepared: "Prepared", trained: "Span", calibrated: "Span") -> None:
    """Raises InvalidArgument unless the log has exactly the clicks that the model was trained and calibrated on."""
    from onlineguard.errors import InvalidArgument

    learned, later = (int(prepared.between(span.since, span.until).sum()) for span in (trained, calibrated))
    if (learned, later) != (trained.clicks, calibrated.clicks):
        raise InvalidArgument(
            f"--baselines needs the {trained.clicks:,} clicks that the model has learned and the "
            f"{calibrated.clicks:,} it was calibrated on; this log has {learned:,} and {later:,} "
            "in those times. Give the log that the model was trained with, or leave --baselines out"
        )
