"""The page in a real Chromium, against a service of its own on a free port.

All that a test does to the service goes through `Service`: to test another one, such as the real one, give `service`
one that starts it. What a test relies on beside the API: the first number of an event above 3 is flagged.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import CI
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class Service:
    """A service in a process of its own, and those who send to it."""

    def __init__(self, folder: Path, key: str | None = None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "service.log"
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(__file__).with_name("scripted_service.py")
        command = [sys.executable, str(program), str(self.port), *([self._key] if self._key else [])]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(400):
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"the service did not start: {self._log.read_text()}", pytrace=False)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def post(self, path: str, body: Any) -> None:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        httpx.post(f"{self.url}{path}", json=body, headers=headers).raise_for_status()

    def events(self, slice_: Any, scores: list[float]) -> None:
        now = time.time_ns() // 1_000_000
        self.post("/v1/update", [{"slice": slice_, "x": [score], "ts": now} for score in scores])

    def clicks(self, device: str, probabilities: list[float]) -> None:
        now = time.time_ns() // 1_000_000
        click = {"ts": now, "ip": "203.0.113.7", "user_agent": "test", "device": device, "marketplace": "US"}
        click |= {"logged_in": True}
        ids = (f"{device}-{time.perf_counter_ns()}-{n}" for n in range(len(probabilities)))
        self.post("/v1/clicks", [click | {"click_id": next(ids), "ad_id": str(p)} for p in probabilities])

    def switch(self, version: str) -> None:
        self.post("/v1/model", {"folder": version})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        reason = (
            f"none of {', '.join(CHROMIUM)} is on PATH; install one (e.g. apt-get install chromium) to run this test"
        )
        if CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.start()
    yield service
    service.kill()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


expect.set_options(timeout=10_000)


def row(page: Page, name: str):
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=name, exact=True))


def names(page: Page) -> list[str]:
    return page.locator("tbody th a").all_inner_texts()


def shows_order(page: Page, expected: list[str]) -> None:
    expect(page.locator("tbody th a")).to_have_text(expected)


def three_slices(service: Service) -> None:
    service.events("a", [1.0] * 3)
    service.events("b", [0.5, 9.0])
    service.events("c", [2.0] * 5)


def test_it_loads_without_an_error_and_asks_no_other_host(service: Service, page: Page):
    errors: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    service.clicks("phone", [0.1, 0.95])
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(page.locator("#model")).to_have_text("v1")
    expect(row(page, "phone / US / true").locator(".ivr")).to_have_text("50.0%")
    row(page, "phone / US / true").click()
    expect(page.locator("#panel .figures")).to_contain_text("50.0%")
    expect(page.locator("#panel .points circle")).to_have_count(1)  # the click that was decided robotic
    assert errors == []
    assert len(asked) > 8  # the page, its files, the stream, the slices
    assert all(url.startswith(f"{service.url}/") for url in asked)


def test_its_numbers_follow_what_arrives(service: Service, page: Page):
    service.events("a", [1.0])
    page.goto(service.url)
    expect(page.get_by_role("button", name="Events")).to_have_attribute("aria-pressed", "true")  # there are no clicks
    expect(row(page, "a").locator(".events")).to_have_text("1")
    rate = page.locator(".chart dd").first
    expect(rate).to_have_text("0/s")
    for _ in range(4):
        service.events("a", [1.0, 7.0])
        page.wait_for_timeout(300)
    expect(row(page, "a").locator(".events")).to_have_text("9")
    expect(row(page, "a").locator(".anomalies")).to_have_text("4")
    expect(row(page, "a").locator(".drift")).to_contain_text("44.4%")
    expect(row(page, "a").locator(".score")).to_have_text("7.00")
    plot = page.get_by_role("slider", name="Events and clicks a second")
    expect(plot.locator("path.line").first).to_have_attribute("d", re.compile(r"^M[\d. ]+(L[\d. ]+){2,}"))
    plot.focus()  # the crosshair reads the values out, one tick a press
    plot.press("ArrowLeft")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(r"^\d\d:\d\d:\d\d: events [\d.]+/s, clicks 0/s$"))
    expect(plot.locator(".tip")).to_be_visible()


def test_it_sorts_by_clicking_and_by_the_keyboard_alone(service: Service, page: Page):
    three_slices(service)
    page.goto(f"{service.url}/#/events")
    shows_order(page, ["c", "a", "b"])  # the busiest first
    page.get_by_role("button", name="Seen").click()
    shows_order(page, ["b", "a", "c"])
    page.get_by_role("button", name="Score").click()
    shows_order(page, ["b", "c", "a"])
    expect(page.locator("th.score")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Slice", exact=True).focus()
    page.keyboard.press("Enter")
    shows_order(page, ["a", "b", "c"])
    expect(page.locator("thead th.name")).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Space")
    shows_order(page, ["c", "b", "a"])


def test_it_filters_by_name_and_shows_more_when_asked(service: Service, page: Page):
    now = [{"slice": f"sensor-{n:03d}", "x": [1.0]} for n in range(120)]
    service.post("/v1/update", now)
    page.goto(f"{service.url}/#/events")
    expect(page.locator("tbody tr")).to_have_count(100)
    expect(page.locator("#shown")).to_have_text("100 of 120 slices")
    page.get_by_role("button", name="Show 100 more").click()
    expect(page.locator("tbody tr")).to_have_count(120)
    page.get_by_role("searchbox").fill("SENSOR-11")
    expect(page.locator("tbody tr")).to_have_count(10)
    expect(page.locator("#shown")).to_have_text("10 of 120 slices match")


def test_a_slice_opens_by_key_with_its_alarms_and_closes_back_to_its_row(service: Service, page: Page):
    service.events("quiet", [1.0] * 3)
    service.events("odd", [1.0] * 20 + [8.0, 9.0])
    page.goto(f"{service.url}/#/events")
    link = page.get_by_role("link", name="odd", exact=True)
    link.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="quiet", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="odd")
    expect(panel).to_be_visible()
    expect(page).to_have_url(f"{service.url}/#/events/odd")
    expect(panel.locator(".points circle")).to_have_count(2)
    expect(panel).to_contain_text("The last 22 events, oldest left. 2 alarms")
    expect(panel.locator(".drivers li").first).to_be_visible()
    plot = panel.get_by_role("slider", name="Score against threshold")
    plot.focus()
    plot.press("End")
    expect(plot.locator(".tip")).to_contain_text("alarm")
    service.events("odd", [10.0])
    expect(panel.locator(".points circle")).to_have_count(3)  # it goes on while it is open
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(link).to_be_focused()
    expect(page).to_have_url(f"{service.url}/#/events")
    page.goto(f"{service.url}/#/events/quiet")
    page.reload()
    expect(page.get_by_role("dialog", name="quiet")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(f"{service.url}/#/events/none")
    expect(page.get_by_role("dialog", name="none")).to_contain_text("knows no such slice")


def test_a_name_that_looks_like_html_is_shown_as_text(service: Service, page: Page):
    service.events(HOSTILE, [1.0])
    service.events(["eu", 7], [1.0])
    page.goto(f"{service.url}/#/events")
    expect(page.locator("tbody th a")).to_have_count(2)
    assert HOSTILE in names(page)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("#panel h2")).to_have_text(HOSTILE)
    expect(page.locator("#panel .points")).to_have_count(1)
    assert page.locator("img[src=x]").count() == 0
    expect(page).to_have_title("onlineguard")
    page.keyboard.press("Escape")
    page.get_by_role("link", name='["eu",7]').click()
    expect(page.locator("#panel .figures")).to_contain_text("1")


def test_a_switch_of_the_model_is_marked_and_told(service: Service, page: Page):
    page.goto(service.url)
    expect(page.locator("#model")).to_have_text("v1")
    service.switch("v2")
    expect(page.locator("#model")).to_have_text("v2")
    for chart in page.locator(".chart").all():
        expect(chart.locator(".marks text").filter(has_text="model v2")).to_be_visible()
    expect(page.get_by_role("status").first).to_have_text("The model was switched to v2.")


def test_it_survives_a_restart_of_the_service_and_says_so(service: Service, page: Page):
    service.events("a", [1.0])
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(row(page, "a").locator(".events")).to_have_text("1")
    service.kill()
    expect(page.locator("#state-text")).to_contain_text("Reconnecting")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("connection to the service was lost")
    expect(row(page, "a")).to_be_visible()  # what was known stays in sight
    service.start()
    expect(page.locator("#state-text")).to_have_text("Live")
    service.events("b", [1.0, 2.0])
    expect(row(page, "b").locator(".events")).to_have_text("2")
    expect(page.locator(".marks text.restart").first).to_be_visible()


def test_a_service_that_is_not_ready_is_quoted_until_it_is(service: Service, page: Page):
    reason = "programs are compiled and the state is recovered"
    problem = {"title": "Not ready", "status": 503, "detail": reason}
    page.route("**/v1/live", lambda route: route.fulfill(status=503, json=problem))
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text(f"Not ready: {reason}")
    page.unroute_all()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#state-text")).to_have_text("Live")


@pytest.mark.parametrize("width", [360, 1920])
def test_nothing_is_wider_than_the_screen(service: Service, page: Page, width: int):
    long = "an-endless-name-" * 20
    service.events(long, [1.0, 1e9, 2.0])
    service.clicks("a device with a rather long name, as they come", [0.2] * 3)
    service.switch("a-version-" * 12)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(service.url)
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#state-text")).to_have_text("Live")
    inside = "() => document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll(\
        '.wide, #panel')].every((box) => box.scrollWidth <= box.clientWidth)"
    assert page.evaluate(inside)
    page.get_by_role("button", name="Events").click()
    page.get_by_role("link", name=long).click()
    expect(page.locator("#panel .points circle")).to_have_count(1)
    expect(page.locator("#panel")).to_contain_text("Logarithmic axis")
    assert page.evaluate(inside)


def test_without_data_it_teaches_how_to_send_some(service: Service, page: Page):
    page.goto(service.url)
    expect(page.locator("#empty")).to_contain_text("No clicks yet")
    expect(page.locator("#empty pre")).to_contain_text(f"curl {service.url}/v1/clicks")
    page.get_by_role("button", name="Events").click()
    expect(page.locator("#empty pre")).to_contain_text(f"curl {service.url}/v1/update")
    service.events("a", [1.0])
    expect(row(page, "a")).to_be_visible()
    expect(page.locator("#empty")).to_be_hidden()


def test_it_asks_for_a_key_where_the_service_does_and_keeps_it_in_its_tab(tmp_path: Path, page: Page):
    service = Service(tmp_path, key="opensesame")
    service.start()
    try:
        service.events("a", [1.0])
        page.goto(service.url)
        question = page.get_by_role("dialog", name="This service asks for a key")
        expect(question).to_be_visible()
        expect(page.locator("#state-text")).to_have_text("Key needed")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter a key").click()
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(question).to_contain_text("not accepted")
        page.get_by_label("API key").fill("opensesame")
        page.keyboard.press("Enter")
        expect(page.locator("#state-text")).to_have_text("Live")
        expect(row(page, "a")).to_be_visible()
        assert page.evaluate("[Object.values(sessionStorage), localStorage.length]") == [["opensesame"], 0]
        page.reload()
        expect(page.locator("#state-text")).to_have_text("Live")
        expect(question).to_be_hidden()
    finally:
        service.kill()
