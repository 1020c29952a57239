"""The site as it is built: no page asks another host for anything, pages are whole, and a browser shows them anywhere.

`.ci/run` builds the site anyway and names its folder in ONLINEGUARD_SITE; otherwise it is built here.
"""

import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import redis_server
from tests.support.browser import faint_texts

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


LOOKED_AT = (
    "",
    "asked/",
    "choose/",
    "concepts/calibration/",
    "benchmarks/",
    "reference/",
    "service/",
    "tutorials/dashboard/",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if folder := os.environ.get("ONLINEGUARD_SITE"):
        return Path(folder)
    pytest.importorskip("mkdocs", reason="the site is built with the group docs: uv run --group docs --group test")
    redis_server.program()  # a tutorial starts it
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


class Quiet(SimpleHTTPRequestHandler):
    """A folder's files, without a line for each request."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_scrolls_sideways_and_all_can_be_read_by_day_and_by_night(address, browser, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in LOOKED_AT:
        page.goto(address + path)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, path
        assert [text for text in faint_texts(page) if not text.startswith("Skip to content")] == [], path
    context.close()
    assert not errors
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


@pytest.mark.slow
def test_the_search_box_finds_a_section_and_leads_there(address, page):
    page.goto(address)
    page.locator(".md-search__input").press_sequentially("false alarm")  # the theme looks at keys, not at what changes
    first = page.locator(".md-search-result__link").first
    first.wait_for()
    assert "alarm" in first.inner_text().lower()
    first.click()
    page.wait_for_url(lambda url: url != address and url.startswith(address))
    assert page.locator("article mark").count() > 0
