"""The pages of the documentation: their links, the shape of a decision, and that the site shows all of them."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {  # pages of the site that stand elsewhere; docs/hooks.py adds them
    "architecture.md": "ARCHITECTURE.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
PAGES = [*(ROOT / path for path in ELSEWHERE.values()), *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted(page for page in (DOCS / "decisions").glob("*.md") if page.name != "README.md")


def tutorial(page):
    """The program that a page of a tutorial is made of."""
    return page.with_suffix(".py") if page.parent == DOCS / "tutorials" else DOCS / "no such page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        target = (page.parent / link).resolve()
        made_by_the_site = target in [DOCS / name for name in ELSEWHERE] or tutorial(target).exists()
        assert made_by_the_site or target.exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tables_of_a_page_are_whole(page):
    """The site shows a row after an empty line, and a row with other cells than its head, as something else."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [re.sub(r"`[^`]*`|\\\|", "", row) for row in table.splitlines()]
        assert len(rows) > 2, rows[0]
        assert re.fullmatch(r"\|[ :|-]+\|", rows[1]), rows[0]
        assert len({row.count("|") for row in rows}) == 1, rows[0]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_why_what_follows_and_what_would_change_it_on_one_page(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "What would change our mind",
    ]
    assert 150 <= len(text.split()) <= 300
    assert f"]({page.name})" in (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")


def test_the_site_shows_every_page():
    listed = re.findall(r"[\w/-]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    run = [f"tutorials/{program.stem}.md" for program in (DOCS / "tutorials").glob("*.py")]
    assert sorted(listed) == sorted([*ELSEWHERE, *written, *run])
