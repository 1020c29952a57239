"""Pieces of the report's HTML that both its text and its drawings use: tables, rates and their intervals."""

from collections.abc import Sequence

from onlineguard.report.writing import escaped
from onlineguard.slidr.evaluation.evaluation import NONE, Evaluation, Share


def table(label: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself, of rows as HTML; the label is for those who do not see it."""
    columns = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
        f"{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def share_cell(share: Share) -> str:
    """A rate and its interval, as the inside of a cell."""
    return f"{share.value:.2%}<small>{interval_text(share)}</small>" if share.trials else NONE


def interval_text(share: Share) -> str:
    """The interval of a rate, in percent."""
    return f"{100 * share.low:.2f} to {100 * share.high:.2f}"


def level_text(evaluation: Evaluation) -> str:
    """The probability of the intervals."""
    return f"{100 * evaluation.level:g}%"
