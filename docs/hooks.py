"""Make the site of the same pages that are read in the repository.

ARCHITECTURE.md stands beside the code, not in this folder, so it is added as a page. A link to a file of the repository
that the site does not have, such as a unit file, becomes its path in plain text.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
HOUSE = "architecture.md"

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the house, whose links then begin in this folder."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, HOUSE, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Mend the links of a page that lead out of this folder."""

    def mended(link: re.Match[str]) -> str:
        target = (Path(config.docs_dir) / page.file.src_path).parent / link[0].split("](")[1][:-1]
        if target.resolve() == ROOT / "ARCHITECTURE.md":
            return f"[{link[1]}](/{HOUSE})"
        if target.resolve().is_relative_to(ROOT / "docs"):
            return link[0]
        return f"`{target.resolve().relative_to(ROOT)}`"

    return _OUTSIDE.sub(mended, markdown)
