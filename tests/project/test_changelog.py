"""Fragments come into the changelog under the heading of their kind."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
joined = runpy.run_path(str(ROOT / "scripts" / "changelog.py"))["joined"]

OLD = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- One.\n\n## [0.1.0]\n\n### Added\n\n- Zero.\n"


def test_fragments_stand_in_the_unreleased_section_by_kind_and_releases_stay():
    new = joined(OLD, {"b.fixed.md": "- Three.\n", "a.added.md": "- Two.", "c.added.md": "- Four."})
    head, release = "# Changelog\n\n## [Unreleased]\n\n", "\n## [0.1.0]\n\n### Added\n\n- Zero.\n"
    assert new == head + "### Added\n\n- One.\n- Two.\n- Four.\n\n### Fixed\n\n- Three.\n" + release
    assert joined(new, {}) == new


@pytest.mark.parametrize("name", ["no-kind.md", "a.bug.md", "a.added.txt"])
def test_a_fragment_of_another_name_is_refused(name):
    with pytest.raises(ValueError, match=f"changelog.d/{name} must be named"):
        joined(OLD, {name: "- Two."})


def test_the_fragments_and_the_changelog_of_today_can_be_joined():
    fragments = {path.name: path.read_text() for path in (ROOT / "changelog.d").glob("*.md") if path.stem != "README"}
    new = joined((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), fragments)
    assert all(text.strip() in new for text in fragments.values())
