"""`onlineguard slidr score`: a decision about every click of a log."""

from pathlib import Path
from typing import Annotated

import typer

from onlineguard.cli import clicks as shared
from onlineguard.cli.exits import one_line_errors
from onlineguard.cli.options import with_options

EPILOG = """[bold]Columns[/bold]

click_id, p_robot, threshold, slice, robotic (whether p_robot is above the threshold), and model (its version).

There is one row for each click, in the order of the log. A click that arrived twice has two rows.

[bold]Examples[/bold]

  [cyan]onlineguard slidr score traffic/clicks.parquet --model model --out decisions.parquet[/cyan]
"""


@with_options
def score(
    clicks: shared.ClicksFile,
    folder: shared.ModelFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where decisions are written: .parquet, .csv or .ndjson.")],
    reading: shared.Reading,
    part: shared.Part,
) -> None:
    """Decide about every click of a log. Features are counted from its first click on."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.model import load_model
        from onlineguard.slidr.workflow import check_table, decisions

        check_table("out", out)
        if clicks.is_dir():
            raise InvalidArgument(f"{clicks} is a folder; onlineguard slidr replay {clicks} judges a history anew")
        read = {"the source": clicks, "--mapping": reading.mapping}
        runner.check_destinations(None, {"out": out, "rejects": reading.rejects}, read)
        model = load_model(folder)
        thresholds, _ = shared.thresholds_of(model, folder)
        prepared = shared.prepared_clicks(clicks, reading, model.config, model)
        start, end = shared.used_span(prepared, part, None, None)
        rows = (prepared.ts >= start) & (prepared.ts < end)
        table = decisions(prepared, model, thresholds, rows)
        shared.write_file(out, lambda path: getattr(table, f"write_{out.suffix.lower()[1:]}")(path))
        console.say(f"{int(table['robotic'].sum()):,} of {table.height:,} clicks are robotic", f"out: {out}")
