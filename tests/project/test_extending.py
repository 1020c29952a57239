"""The examples of docs/extending.md, run as they stand."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = {
    section.partition("\n")[0]: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    for section in PAGE.split("\n## ")[1:]
}


def test_every_part_that_can_be_replaced_has_an_example_that_checks_itself():
    assert list(EXAMPLES) == ["A model", "A source", "A store of counters", "A journal"]
    assert all("assert" in example for example in EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path, monkeypatch):
    module = "extending_" + name.replace(" ", "_")  # a module of its own, as in life: a model's class can be pickled
    (tmp_path / f"{module}.py").write_text(EXAMPLES[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(module)
