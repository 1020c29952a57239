"""The list of alarms in a real Chromium, against a real service with keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.keys import keys_file
from tests.support.real import Service, usual

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class Served(Service):
    """A service with keys, and alarms of a slice with a hostile name."""

    reader: str
    operator: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, environment, model_folder: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("alarms-page")
    path, keys = keys_file(folder, reader=["score", "update"], eve=["admin"])
    flags = ("--model", str(model_folder), "--n-features", "1", "--keys", str(path))
    service = Served(folder, environment, *flags, key=keys["reader"])
    service.reader, service.operator = keys["reader"], keys["eve"]
    service.start()
    for name in (HOSTILE, "web"):
        service.events(name, usual(400))
    yield service
    service.kill()


@pytest.fixture
def opened(service: Served, page: Page) -> Iterator[Page]:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(f"sessionStorage.setItem('onlineguard.key', '{service.reader}')")
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text("Live")
    yield page
    assert errors == []
    expect(page).to_have_title("onlineguard")
    assert page.locator("img[src=x]").count() == 0


def newest(page: Page) -> Locator:
    return page.locator("#alarms li").first


def test_an_alarm_comes_by_itself_with_what_drove_it_and_is_acknowledged_by_keyboard(service: Served, opened: Page):
    page = opened
    assert service.events(HOSTILE, [60.0])[0]["anomalous"]
    expect(newest(page)).to_contain_text(HOSTILE)
    expect(newest(page)).to_contain_text("Driven by 0 100%")
    expect(newest(page)).to_contain_text("open")
    button = newest(page).get_by_role("button", name="Acknowledge …")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.type("the sale <b>")
    page.keyboard.press("Tab")
    page.keyboard.type(service.operator)
    page.keyboard.press("Enter")
    expect(newest(page)).to_contain_text("Seen by eve")
    expect(newest(page)).to_contain_text("the sale <b>")
    expect(newest(page).get_by_role("button", name="Note …")).to_be_focused()
    newest(page).get_by_role("link", name=HOSTILE).press("Enter")
    expect(page.get_by_role("dialog", name=HOSTILE)).to_be_visible()


def test_that_was_usual_teaches_the_slice_and_a_phone_shows_all_of_it(service: Served, opened: Page):
    page = opened
    page.set_viewport_size({"width": 360, "height": 740})
    (odd,) = service.events("web", [60.0])
    expect(newest(page)).to_contain_text("web")
    newest(page).get_by_role("button", name="That was usual …").click()
    page.get_by_label("Key with the scope admin").fill(service.reader)
    page.get_by_role("button", name="It was usual").click()
    expect(page.locator("#change-refused")).to_contain_text("admin")  # a key that may not
    page.get_by_label("Key with the scope admin").fill(service.operator)
    page.get_by_role("button", name="It was usual").click()
    expect(newest(page)).to_contain_text("Said to be usual by eve")
    expect(newest(page).get_by_role("button", name="That was usual …")).to_have_count(0)
    again = service.post("/v1/score", {"slice": "web", "x": [60.0]})
    assert again["threshold"] > odd["threshold"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
