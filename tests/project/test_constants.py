"""The page of the detector's constants: it has every one of them, with the value that the code has."""

import re
from pathlib import Path

import pytest

from benchmarks.ablate_detector import varied

ROOT = Path(__file__).parents[2]
ROWS = dict(
    re.findall(
        r"^\| `([A-Z0-9_\[\]]+)` \| (\S+) \|", (ROOT / "docs" / "detector-constants.md").read_text(), re.MULTILINE
    )
)


@pytest.mark.parametrize("module", ["models/detector", "core/spread", "core/quantiles"])
def test_every_constant_of_the_detector_has_a_row(module):
    source = (ROOT / "onlineguard" / f"{module}.py").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Z][A-Z0-9_]*)(?::[^=]+)? = ", source, re.MULTILINE)
    assert names
    assert not {*names} - {row.partition("[")[0] for row in ROWS}


def test_the_page_has_the_values_of_the_code_and_no_constant_besides():
    values = {}
    for module, name, index in varied():
        value = getattr(module, name)
        values[name if index is None else f"{name}[{index}]"] = repr(value if index is None else value[index])
    assert values == ROWS
