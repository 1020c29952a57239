"""The site as it is built: no page asks another host for anything, and pages are whole.

`.ci/run` builds the site anyway and names its folder in ONLINEGUARD_SITE; otherwise it is built here.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc(?:set)?=["']?(?P<src>[^"'\s>]+)"""
    r"""|<link\b(?P<link>[^>]*)>|<form\b[^>]*\baction=["']?(?P<form>[^"'\s>]+)""",
    re.IGNORECASE,
)
HOSTS = {  # that a reader may be sent to, by a link to click on
    "arrow.apache.org",
    "arxiv.org",
    "capymoa.org",
    "docs.astral.sh",
    "docs.ray.io",
    "docs.seldon.io",
    "filesystem-spec.readthedocs.io",
    "keepachangelog.com",
    "opensource.salesforce.com",
    "pyod.readthedocs.io",
    "pysad.readthedocs.io",
    "riverml.xyz",
    "semver.org",
    "web.stanford.edu",
    "www.standardwebhooks.com",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if folder := os.environ.get("ONLINEGUARD_SITE"):
        return Path(folder)
    pytest.importorskip("mkdocs", reason="the site is built with the group docs: uv run --group docs --group test")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH; a tutorial starts one (e.g. apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """The HTML of every page, by its path."""
    return {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def fetched(html):
    """What a browser fetches of its own accord to show a page."""
    for found in FETCHED.finditer(html):
        if found["link"] and not re.search(r"rel=[\"']?(?:canonical|next|prev|alternate)\b", found["link"]):
            yield from re.findall(r"""href=["']?([^"'\s>]+)""", found["link"])
        elif address := found["src"] or found["form"]:
            yield address


@pytest.mark.slow
def test_no_page_and_no_style_fetches_anything_from_another_host(site, pages):
    assert len(pages) > 50
    asked = {address for html in pages.values() for address in fetched(html)}
    assert any(address.endswith(".js") for address in asked)  # the pattern finds what there is
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    asked |= {address for style in styles for address in re.findall(r"""(?:url\(|@import )["']?([^"')\s]+)""", style)}
    assert not [address for address in asked if urlsplit(address).netloc]
    assert not [page for page, html in pages.items() if 'class="mermaid' in html]  # the theme fetches a program for it


@pytest.mark.slow
def test_links_to_other_hosts_lead_only_to_those_that_are_known_here(pages):
    links = {link for html in pages.values() for link in re.findall(r"""<a\b[^>]*href=["']?(https?:[^"'\s>]+)""", html)}
    assert {urlsplit(link).netloc for link in links} <= HOSTS
    assert all(link.startswith("https:") for link in links)


@pytest.mark.slow
def test_formulas_are_mathml_and_none_is_left_in_tex(pages):
    assert sum(html.count("<math") for html in pages.values()) > 30
    assert not [page for page, html in pages.items() if "arithmatex" in html or "\\frac" in html]


@pytest.mark.slow
def test_the_search_finds_words_of_every_section(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert all(
        f'"location":"{page}' in index for page in ("choose/", "concepts/", "howto/", "changelog/", "reference/")
    )
