"""A real Chromium for the tests of the page; skips where none is on PATH, and fails where CI=true."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
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
    return page.evaluate(
        """() => {
          const channels = (colour) => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
          const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92
            : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
          const ground = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const [r, g, b, alpha = 1] = channels(getComputedStyle(at).backgroundColor);
              if (alpha === 1) return [r, g, b];
            }
            return [255, 255, 255];
          };
          const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
            if (!text || !element.checkVisibility({ visibilityProperty: true }) || element.closest('.unseen, script, style, title, desc')) continue;
            const style = getComputedStyle(element), colour = element.closest('svg') ? style.fill : style.color;
            if (colour === 'none') continue;
            const [bright, dim] = [luminance(channels(colour)), luminance(ground(element.closest('svg')?.parentElement ?? element))]
              .sort((a, b) => b - a);
            const contrast = (bright + 0.05) / (dim + 0.05);
            if (contrast < 4.5) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
          }
          return faint;
        }"""
    )


def too_wide(page: "Page") -> list[str]:
    """The parts that are scrolled sideways: the page itself, and tables; empty if none is."""
    return page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll('.wide, .panel, dialog[open]')]
          .filter((box) => box.scrollWidth > box.clientWidth + 1)
          .map((box) => `${box.tagName} ${box.className}: ${box.scrollWidth} > ${box.clientWidth}`)"""
    )
