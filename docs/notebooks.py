"""Run a tutorial and write the page of it, and the same as a notebook.

A tutorial is a program of cells: `# %% [markdown]` begins text, `# %%` begins code, as Jupyter, VS Code and PyCharm
read them. Its page has the text, the code, what the code printed, and the figures that it drew.

uv run --group dev --group docs python docs/notebooks.py docs/tutorials/server_metrics.py FOLDER
"""

import ast
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

_CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)


class Cell(NamedTuple):
    """A piece of a tutorial."""

    code: bool
    text: str


def cells(program: str) -> list[Cell]:
    """The cells of a program; what stands before the first is its heading for readers of the file, and no cell."""
    _, *parts = _CELL.split(program)
    found: list[Cell] = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        code = "markdown" not in kind
        found.append(Cell(code, text.strip() if code else re.sub(r"^# ?", "", text.strip(), flags=re.MULTILINE)))
    return found


def notebook(program: str) -> str:
    """The same cells as a Jupyter notebook without outputs."""
    kinds: dict[bool, dict[str, Any]] = {
        True: {"cell_type": "code", "execution_count": None, "outputs": []},
        False: {"cell_type": "markdown"},
    }
    written = [
        {"id": f"cell-{i}", "metadata": {}, "source": cell.text, **kinds[cell.code]}
        for i, cell in enumerate(cells(program))
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": written, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def write_page(tutorial: Path, folder: Path) -> None:
    """Run the tutorial; write NAME.md with what it shows, NAME.ipynb, and a PNG for each figure.

    Any error of a cell is raised.
    """
    program = tutorial.read_text("utf-8")
    name = tutorial.stem
    names: dict[str, Any] = {"__name__": "__main__"}
    page: list[str] = []
    for number, cell in enumerate(cells(program)):
        if not cell.code:
            page.append(cell.text)
            continue
        page.append(f"```python\n{cell.text}\n```")
        if printed := _ran(cell.text, names, f"{tutorial.name}, cell {number}"):
            page.append(f"```text\n{printed}\n```")
        for figure in plt.get_fignums():
            image = f"{name}-{number}-{figure}.png"
            plt.figure(figure).savefig(folder / image, dpi=100)
            page.append(f"![What the cell above draws]({image})")
        plt.close("all")
    page.insert(1, f"*[This page as a notebook]({name}.ipynb). Everything below was run when the page was made.*")
    (folder / f"{name}.md").write_text("\n\n".join(page) + "\n", "utf-8")
    (folder / f"{name}.ipynb").write_text(notebook(program), "utf-8")


def _ran(code: str, names: dict[str, Any], where: str) -> str:
    """What the code printed, and the value of its last line, unless the code draws."""
    tree = ast.parse(code, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if value is not None and not plt.get_fignums():
                print(repr(value))
    return printed.getvalue().rstrip()


if __name__ == "__main__":
    write_page(Path(sys.argv[1]), Path(sys.argv[2]))
