"""A report in a real Chromium, opened from its file: what a reader does with it."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from onlineguard.report import Alarm, write_report
from tests.support.browser import faint_texts, too_wide
from tests.support.pages import a_slice

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
EVENTS = np.arange(400)  # fewer than columns, so that each has one of its own


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slices: one with alarms nearly everywhere, one with a hostile name, one without times and with a gap."""
    every_where = [Alarm(start, start + 4, 3.0, 1e-3) for start in range(0, 399, 8)]
    common = {"index": EVENTS, "n_events": 400, "thresholds": np.full(400, 2.5), "labels": None, "times": None}
    rising = common | {"values": 10.0 + EVENTS, "scores": EVENTS / 100}
    timed = {"times": 1_700_000_000_000_000 + 60_000_000 * EVENTS, "labels": EVENTS // 50 == 2}
    unknown = {"values": np.where(EVENTS < 390, np.nan, 1.0), "scores": np.full(400, np.nan)}
    slices = [
        a_slice(name="noisy", alarms=every_where, n_anomalies=9, **rising | timed),
        a_slice(name=HOSTILE, drivers={HOSTILE: 1.0}, value_name=HOSTILE, n_anomalies=7, **rising),
        a_slice(name="quiet", alarms=[], n_anomalies=0, **common | unknown),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, slices, {"Events": 1_200, "Of": HOSTILE}, "A report")
    return path


@pytest.fixture
def opened(report: Path, page: Page) -> Iterator[Page]:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else errors.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert errors == []
    expect(page).to_have_title("A report")


def plots(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=f"Values of {name}", exact=True)


def order(page: Page) -> list[list[str]]:
    """The names in the table, and above the plots."""
    return [page.locator(f"{where}:visible").all_text_contents() for where in (".slices tbody th", "section > h2")]


def test_pointing_at_a_plot_shows_the_values_of_the_event_there(opened: Page):
    noisy = plots(opened, "noisy")
    noisy.scroll_into_view_if_needed()
    box = noisy.locator(".plot").first.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + box["width"] * 120 / 399, box["y"] + 40)
    tip = noisy.locator(".tip")
    expect(tip).to_have_text(
        re.compile(r"15 Nov 2023, 00:13:20, event120value130score1.2threshold2.5alarm, p-value0.001labelled")
    )
    left = noisy.locator(".cursor").first.bounding_box()
    assert left is not None
    assert left["x"] == pytest.approx(box["x"] + box["width"] * 120 / 399, abs=2)
    opened.mouse.move(box["x"], box["y"] - 60)
    expect(tip).to_be_hidden()


def test_the_values_are_read_out_by_the_keys_alone(opened: Page):
    quiet, noisy = plots(opened, "quiet"), plots(opened, "noisy")
    noisy.focus()
    for key, event in (("End", 399), ("ArrowLeft", 398), ("Home", 0), ("ArrowRight", 1), ("PageUp", 41)):
        noisy.press(key)
        expect(noisy).to_have_attribute("aria-valuetext", re.compile(f"event {event}, value {10 + event}, score"))
    noisy.press("Escape")
    expect(noisy.locator(".tip")).to_be_hidden()
    quiet.focus()
    quiet.press("Home")
    expect(quiet.locator(".tip")).to_have_text("event0valuen/ascoren/athreshold2.5")


def test_the_slices_are_sorted_and_filtered_with_their_plots(opened: Page):
    assert order(opened) == [["noisy", HOSTILE, "quiet"]] * 2
    anomalies = opened.get_by_role("button", name="Anomalies")
    anomalies.click()
    assert order(opened) == [["noisy", HOSTILE, "quiet"]] * 2
    expect(opened.locator(".slices th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    anomalies.press("Enter")
    assert order(opened) == [["quiet", HOSTILE, "noisy"]] * 2
    opened.get_by_role(
        "button", name="Lowest p-value"
    ).click()  # the hostile one has 1e-5; one without alarms comes last
    assert order(opened) == [[HOSTILE, "noisy", "quiet"]] * 2
    opened.get_by_role("searchbox").fill("QUI")
    assert order(opened) == [["quiet"]] * 2
    expect(opened.get_by_role("status")).to_have_text("1 of 3 slices")
    opened.get_by_role("searchbox").fill("")
    assert order(opened) == [[HOSTILE, "noisy", "quiet"]] * 2


def test_no_alarm_lies_over_a_point_and_the_line_itself_has_the_colour_of_alarms(opened: Page):
    boxes = opened.evaluate(
        """() => [...document.querySelectorAll('.plot')].flatMap((plot) => {
          const inside = plot.getBoundingClientRect();
          return [...plot.querySelectorAll('path.alarm, path.label')].map((band) => {
            const box = band.getBoundingClientRect();
            return [box.height, Math.max(0, Math.min(box.bottom, inside.bottom) - Math.max(box.top, inside.top))];
          });
        })"""
    )
    assert len(boxes) == 6  # alarms of four plots, and the labels of two
    assert all(height >= 3 and over <= 1 for height, over in boxes), boxes
    shown = opened.evaluate("getComputedStyle(document.querySelector('.odd use')).getPropertyValue('--series')")
    assert shown.lower() == "#c8381b"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_at_every_width(opened: Page, scheme):
    opened.emulate_media(color_scheme=scheme)
    for width in (360, 768, 1440):
        opened.set_viewport_size({"width": width, "height": 800})
        assert too_wide(opened) == []
        assert faint_texts(opened) == []
        for cell in opened.locator(".slices tbody tr").first.locator("td").all():
            expect(cell).to_be_visible()


def test_without_scripts_and_on_paper_it_has_all_tables_and_pictures(report: Path, browser: Browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert order(page) == [["noisy", HOSTILE, "quiet"]] * 2
    expect(page.get_by_role("img")).to_have_count(6)
    expect(page.get_by_role("searchbox")).to_have_count(0)
    context.close()
    page = browser.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    expect(page.get_by_role("searchbox")).to_have_count(0)
    expect(page.locator("section svg").last).to_be_visible()
    page.close()
