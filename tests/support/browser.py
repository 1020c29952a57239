"""A real Chromium for the tests of the page; skips where none is on PATH, and fails where CI=true."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FAINT_TEXTS = (Path(__file__).parent / "faint_texts.js").read_text()
PATIENCE = 20_000  # ms for what the page is to show, while others use the machine


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        reason = (
            f"none of {', '.join(CHROMIUM)} is on PATH; install one (e.g. apt-get install chromium) to run this test"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()


def faint_texts(page: "Page") -> list[str]:
    """The visible texts whose contrast to what is behind them is under 4.5; empty if all can be read (WCAG 2, AA)."""
    return page.evaluate(FAINT_TEXTS)


def too_wide(page: "Page") -> list[str]:
    """The parts that are scrolled sideways: the page itself, and tables; empty if none is."""
    return page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll('.wide, .panel, dialog[open]')]
          .filter((box) => box.scrollWidth > box.clientWidth + 1)
          .map((box) => `${box.tagName} ${box.className}: ${box.scrollWidth} > ${box.clientWidth}`)"""
    )
