"""Tutorials are made into pages and notebooks; that each of them runs is seen where the site is built."""

import json
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
notebooks = runpy.run_path(str(DOCS / "notebooks.py"))
PROGRAM = "# A heading.\n\n# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\nx = 2\nprint(x)\nx + 1\n"


def test_a_program_becomes_a_page_with_what_it_printed_and_its_last_value(tmp_path):
    (tmp_path / "a.py").write_text(PROGRAM, encoding="utf-8")
    notebooks["write_page"](tmp_path / "a.py", tmp_path)
    page = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert page.startswith("# Title\n\nText\n\n*[This page as a notebook](a.ipynb).")
    assert page.endswith("```python\nx = 2\nprint(x)\nx + 1\n```\n\n```text\n2\n3\n```\n")


def test_an_error_of_a_cell_is_raised(tmp_path):
    (tmp_path / "a.py").write_text("# %%\nassert 1 == 2\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        notebooks["write_page"](tmp_path / "a.py", tmp_path)


@pytest.mark.parametrize("tutorial", sorted((DOCS / "tutorials").glob("*.py")), ids=lambda tutorial: tutorial.stem)
def test_a_tutorial_has_text_code_a_figure_and_a_claim_and_is_short(tutorial):
    text = tutorial.read_text(encoding="utf-8")
    cells = notebooks["cells"](text)
    assert cells[0].text.startswith("# ")
    assert {cell.code for cell in cells} == {True, False}
    assert "plt.subplots" in text
    assert "\nassert " in text
    assert len(text.splitlines()) <= 120
    kinds = [cell["cell_type"] for cell in json.loads(notebooks["notebook"](text))["cells"]]
    assert kinds == ["code" if cell.code else "markdown" for cell in cells]
