"""The page about scale shows what its script computes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "scale.py"


def test_the_table_of_the_page_is_the_scripts():
    shown = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True).stdout
    assert shown.count("\n") > 15
    assert shown in (ROOT / "docs" / "scale.md").read_text()


def test_other_numbers_change_it_and_an_unknown_one_is_named():
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)

    assert "| shards, a core each | 278 |" in said("--set", "clicks_core=60_000").stdout
    wrong = said("--set", "cores=3")
    assert wrong.returncode == 2
    assert "there is no cores; name one of clicks_core" in wrong.stderr
