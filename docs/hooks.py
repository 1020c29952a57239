"""Make the site of the same pages that are read in the repository.

Some pages stand beside the code, not in this folder, so they are added. The tutorials are programs, and become the
pages that they write when they run. A link to a file that the site does not have, such as a unit file,
becomes its path in plain text. Formulas become MathML, so that a reader's browser needs no script for them.
"""

import contextlib
import html
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def _changelog() -> str:
    """The changelog with what is not released yet."""
    joined: Callable[[str, dict[str, str]], str] = runpy.run_path(str(ROOT / "scripts" / "changelog.py"))["joined"]
    fragments = {path.name: path.read_text("utf-8") for path in (ROOT / "changelog.d").glob("*.md")}
    del fragments["README.md"]
    return joined((ROOT / "CHANGELOG.md").read_text("utf-8"), fragments)


ELSEWHERE = {  # page of the site: the file of the repository that it is
    "architecture.md": "ARCHITECTURE.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^):#]+)(#[^)]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere."""
    for page, path in ELSEWHERE.items():
        text = _changelog() if page == "changelog.md" else (ROOT / path).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for tutorial in sorted((ROOT / "docs" / "tutorials").glob("*.py")):
        with tempfile.TemporaryDirectory() as folder:
            made = [sys.executable, str(ROOT / "docs" / "notebooks.py"), str(tutorial), folder]
            _run(made, folder)
            for path in sorted(Path(folder).glob(f"{tutorial.stem}*")):
                files.append(File.generated(config, f"tutorials/{path.name}", content=path.read_bytes()))
    return files


def _run(command: list[str], folder: str) -> None:
    """Run a tutorial to its end. What it started ends with it, even if it fails."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "service"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, env={**os.environ, "PYTHONPATH": paths})
    try:
        if status := process.wait(600):
            raise RuntimeError(f"{Path(command[2]).name} ended with {status}; what it wrote is above")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Mend the links of a page that lead to a page from elsewhere, or out of the site."""
    here = page.file.src_path
    folder = (ROOT / ELSEWHERE.get(here, f"docs/{here}")).parent

    def mended(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        for name, path in ELSEWHERE.items():
            if target in (ROOT / path, ROOT / "docs" / name):
                return f"[{link[1]}](/{name}{link[3] or ''})"
        if target.is_relative_to(ROOT / "docs"):
            return f"[{link[1]}](/{target.relative_to(ROOT / 'docs')}{link[3] or ''})"
        return f"`{target.relative_to(ROOT)}`"

    return _LINK.sub(mended, markdown)


def on_page_content(html_: str, page: Any, config: Any, files: Files) -> str:
    """Make MathML of the formulas."""

    def mathml(formula: re.Match[str]) -> str:
        display = "block" if formula[1] == "div" else "inline"
        return convert(html.unescape(formula[2]).strip(), display=display)

    return _FORMULA.sub(mathml, html_)
