"""The Python of the README and of the page on slices, run as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_python_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "[ True]" in printed
    assert "[False  True]" in printed
    assert re.search(r"\{'bytes': 0\.9\d*, 'duration': 0\.0\d*", printed), printed
    assert (tmp_path / "engine.onlineguard").exists()


def test_the_page_on_slices_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (README.parent / "docs" / "slices.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "assert" in example
    exec(example, {})


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")))
def test_the_readmes_links_lead_somewhere(link):
    assert (README.parent / link).exists()
