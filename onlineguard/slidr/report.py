"""The evaluation of a scorer as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onlineguard.slidr.evaluation import Evaluation, Row, Share


@dataclass(frozen=True)
class Extras:
    """What a report shows besides the evaluation; each part is left out where it is not given."""

    hourly: Mapping[str, Sequence[Share]] | None = None
    """FPR of the 24 local hours by `evaluation.hourly_fpr`, under the name of each scorer: with sample weights first,
    then without."""
    comparison: Sequence[Row] | None = None
    """Rows of `evaluation.compare`, or any with the same headings in every row; the first column names the row."""
    losses: Sequence[float] | None = None
    """Weighted cross-entropy of each minibatch, as `Network.losses` has it."""


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    title: str = "SLIDR evaluation",
    facts: Mapping[str, str] | None = None,
    extras: Extras | None = None,
) -> None:
    """Write one HTML file that shows the evaluation, `facts` as they are (time ranges, seed, versions) and `extras`.

    All text is escaped. An existing file is replaced at once, or left as it was. Raises InvalidArgument where the file
    cannot be written.
    """
    raise NotImplementedError
