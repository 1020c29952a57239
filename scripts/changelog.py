"""Move the fragments of changelog.d/ into the section "Unreleased" of CHANGELOG.md, each under the heading of its kind.

Run it from anywhere, without arguments. See changelog.d/README.md.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
UNRELEASED = "## [Unreleased]\n"


def joined(changelog: str, fragments: dict[str, str]) -> str:
    """The changelog with the fragments, by file name, under their headings. Raises ValueError for a bad name."""
    before, unreleased, after = changelog.partition(UNRELEASED)
    if not unreleased:
        raise ValueError(f"CHANGELOG.md has no line {UNRELEASED.strip()!r}; add one above the newest release")
    section, release, rest = after.partition("\n## [")
    parts = {part.partition("\n")[0].lower(): part for part in section.split("\n### ")[1:]}
    for name in sorted(fragments):
        _, kind, _ = [*name.split("."), "", ""][:3]
        if kind not in KINDS or not name.endswith(".md"):
            raise ValueError(f"changelog.d/{name} must be named WHAT.KIND.md, KIND one of {', '.join(KINDS)}")
        parts[kind] = parts.get(kind, kind.capitalize() + "\n\n").rstrip("\n") + "\n" * (1 + (kind not in parts))
        parts[kind] += fragments[name].strip() + "\n"
    shown = "".join(f"\n### {parts[kind].rstrip()}\n" for kind in KINDS if kind in parts)
    return before + unreleased + shown + release + rest


def main() -> None:
    """Rewrite CHANGELOG.md and remove the fragments."""
    paths = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md"]
    changelog = ROOT / "CHANGELOG.md"
    text = joined(
        changelog.read_text(encoding="utf-8"), {path.name: path.read_text(encoding="utf-8") for path in paths}
    )
    changelog.write_text(text, encoding="utf-8")
    for path in paths:
        path.unlink()


if __name__ == "__main__":
    main()
