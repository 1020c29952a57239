"""`onlineguard slidr calibrate`: a threshold for every slice."""

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from onlineguard.cli import clicks as shared
from onlineguard.cli.exits import one_line_errors
from onlineguard.cli.options import with_options

EPILOG = f"""{shared.TIMES}
Without --since, calibration begins where training ended.

Without --until, it ends a week before the end of a log of three weeks or more, and at 71.43% of a shorter one. If the \
log begins after the training, it ends with the log.

[bold]Examples[/bold]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --budget 0.02[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --method quadratic --min-coverage 0.3[/cyan]
"""


class MethodName(StrEnum):
    envelope = "envelope"
    quadratic = "quadratic"
    global_ = "global"
    knee = "knee"


@with_options
def calibrate(
    clicks: shared.Clicks,
    folder: shared.ModelFolder,
    reading: shared.Reading,
    part: shared.Part,
    budget: Annotated[float, typer.Option(help="Share of purchasing clicks that may be called robotic.")] = 0.01,
    min_coverage: Annotated[
        float, typer.Option(help="Share of the clicks of heavy sessions that must be called robotic in every slice.")
    ] = 0.0,
    method: Annotated[
        MethodName,
        typer.Option(
            help="envelope: the most clicks for the budget. quadratic: as in the paper. global: one threshold for all. "
            "knee: one threshold, without a budget."
        ),
    ] = MethodName.envelope,
    cap: Annotated[
        float | None,
        typer.Option(
            help="Share of the purchasing clicks of any one slice that may be called robotic. 1 is no cap.",
            show_default="three budgets",
        ),
    ] = None,
    confidence: Annotated[
        str,
        typer.Option(
            metavar="SHARE|none",
            help="The budget holds for new clicks with this probability. none: on average only, and is exceeded about "
            "every other time.",
        ),
    ] = "0.95",
    regulars: Annotated[
        bool,
        typer.Option(help="Hold the budget also on visitors who come back for days without buying, a click each."),
    ] = True,
) -> None:
    """Choose a threshold for every slice, on clicks that the model has not learned, and write them to its folder."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.slidr.model import Span, load_model, save_model
        from onlineguard.slidr.pipeline import purchasing, split
        from onlineguard.slidr.workflow import calibrate_scorer

        runner.check_destinations(
            None, {"rejects": reading.rejects}, {"the source": clicks, "--mapping": reading.mapping}
        )
        model = load_model(folder)
        prepared = shared.prepared_clicks(clicks, reading, model.config, model)
        begins_after_training = prepared.bounds[0] >= model.trained.until
        usual_until = None if begins_after_training else split(*prepared.bounds).calibrate_until
        start, end = shared.used_span(prepared, part, model.trained.until, usual_until)
        words.warn_of_reuse(start, model.trained, "learned")
        words.warn_of_weekdays((start, end))
        options: dict[str, Any] = {
            "budget": budget,
            "cap": cap,
            "min_coverage": min_coverage,
            "method": method.value,
            "confidence": _confidence(confidence),
            "hold_regulars": regulars,
        }
        rows = prepared.between(start, end)
        thresholds = calibrate_scorer(prepared, model, model.scorer, rows, end, options)
        calibrated = Span.of(start, end, rows, purchasing(prepared, end))
        changes: dict[str, Any] = {"thresholds": thresholds, "calibrated": calibrated, "options": options}
        saved = save_model(folder, dataclasses.replace(model, **changes))
        for warning in thresholds.calibration.warnings:
            console.say(f"beware: {warning}")
        console.print_rows("Thresholds, and their rates on the clicks they were chosen on", words.chosen(thresholds))
        console.say(
            f"calibrated on {calibrated.clicks:,} clicks, {calibrated.humans:,} of them purchasing, "
            f"{words.times(calibrated)}",
            f"model {saved.version}: {folder}; "
            f"next: onlineguard slidr evaluate {words.log(clicks, reading.mapping)} --model {folder}",
        )


def _confidence(text: str) -> float | None:
    from onlineguard.errors import InvalidArgument

    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument("confidence", f"is {text!r}; it must be a number such as 0.95, or none") from None
