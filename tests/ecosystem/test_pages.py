"""The Python of every page, run as it stands, page by page and from top to bottom."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = {  # pages whose Python is run by a test of their own, or is a piece of a larger whole
    "extending.md": "tests/project/test_extending.py",
    "slices.md": "tests/project/test_readme.py",
    "gpu.md": "arrays that lie on a GPU",
    "history.md": "a history that a service wrote",
    "operations.md": "tests/cli/test_bad_day.py",
    "scale.md": "logs of a cluster",
    "service.md": "a service that runs",
    "style.md": "pieces of the code itself",
}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


PAGES = {str(page.relative_to(DOCS)): page for page in sorted(DOCS.rglob("*.md")) if blocks(page)}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_examples_of_a_page_run_as_they_stand(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    program = compile("\n".join(blocks(PAGES[page])), page, "exec")
    exec(program, {"__name__": "a page"})
    plt.close("all")


def test_a_page_whose_python_is_not_run_here_exists_and_has_some():
    assert ELSEWHERE.keys() <= PAGES.keys()


def test_each_question_has_an_answer_of_a_few_sentences_code_that_claims_something_and_a_link():
    text = (DOCS / "asked.md").read_text(encoding="utf-8")
    questions = text.split("\n## ")[1:]
    assert len(questions) == 18
    for question in questions:
        title, _, answer = question.partition("\n")
        assert title.endswith("?")
        (code,) = re.findall(r"```python\n(.*?)```", answer, re.DOTALL)
        assert "assert" in code or "warmup" in code, title
        told = " ".join(re.sub(r"```python\n.*?```", "", answer, flags=re.DOTALL).split())
        assert 2 <= len(re.findall(r"[.:](?= |$)", told)) <= 6, title
        assert "](" in told, title
