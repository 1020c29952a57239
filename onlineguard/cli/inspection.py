"""What `inspect` prints: how a file is read, its columns and first rows, and the command that judges it."""

import shlex
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onlineguard.cli.exits import clean
from onlineguard.sources.looking import Look
from onlineguard.sources.rejects import shortened

NAMED = 6  # features that a command names; of more it leaves them out, which means all
COLUMNS = 60  # that are listed
WIDE = 10  # columns of the first rows
CELL = 24  # characters of a field that are shown


def show(source: str, found: Look, rows: int, given: Sequence[str]) -> None:
    """Print it to standard output. `given`: the flags that said how the file is written."""
    console = Console()
    if not console.is_terminal:
        console.width = 200  # nothing is cut that goes into a file
    more = f", the first of {len(found.files):,} files" if len(found.files) > 1 else ""
    console.print(Text(clean(f"{found.files[0]}{more}: {found.described}")))
    table = Table(box=SIMPLE_HEAD, title="Columns", title_justify="left", title_style="bold")
    for heading in ("column", "kind", "different", "missing", "first"):
        table.add_column(heading, justify="right" if heading == "different" else "left", no_wrap=True)
    for name, kind in list(found.kinds.items())[:COLUMNS]:
        firsts = [_cell(cell) for cell in found.sample[name].head(3)]
        use = "counts rows" if kind.counter else kind.name
        table.add_row(
            Text(clean(name)), use, f"{kind.distinct:,}", Text(" ".join(kind.missing)), Text("  ".join(firsts))
        )
    console.print(table)
    if len(found.kinds) > COLUMNS:
        console.print(f"and {len(found.kinds) - COLUMNS:,} more columns")
    names = list(found.kinds)[:WIDE]
    table = Table(box=SIMPLE_HEAD, title="First rows", title_justify="left", title_style="bold")
    for name in names:
        table.add_column(Text(clean(name)), no_wrap=True)
    cells = [[_cell(cell) for cell in found.sample[name].head(rows)] for name in names]
    for row in zip(*cells, strict=False):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text("A command that judges it:", "bold"))
    console.print(Text(command(source, found, given)), soft_wrap=True)
    others = ", ".join(f"{clean(name)} ({found.kinds[name].distinct:,})" for name in found.proposal.slices[1:NAMED])
    if others:
        console.print(Text(f"Others that may tell slices apart: {others}."), soft_wrap=True)
    for name in found.proposal.codes[:NAMED]:
        console.print(Text(codes_hint(name, found.kinds[name].codes)), soft_wrap=True)


def codes_hint(name: str, codes: Sequence[int]) -> str:
    """What to do about a column whose numbers may be codes."""
    return (
        f"{clean(name)} has few numbers, such as {', '.join(map(str, codes))}: if they are codes, add "
        f"--category {shlex.quote(clean(name))}"
    )


def command(source: str, found: Look, given: Sequence[str] = ()) -> str:
    """The command line that judges the source, quoted for a shell."""
    proposal = found.proposal
    parts = ["onlineguard", "run", source]
    if proposal.slices:
        parts += ["--slice", proposal.slices[0]]
    if 0 < len(proposal.features) <= NAMED and not any("," in name for name in proposal.features):
        parts += ["--feature", ",".join(proposal.features)]
    if proposal.time is not None:
        parts += ["--time", proposal.time]
    return shlex.join([*parts, *given, "--report", "report.html"])


def _cell(cell: object) -> str:
    cell = f"{cell:.6g}" if isinstance(cell, float) else cell
    return "" if cell is None else clean(shortened(str(cell).strip(), CELL))
