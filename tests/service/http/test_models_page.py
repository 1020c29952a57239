"""The view of the models and the description of the API in a real Chromium, against a real service and its registry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from onlineguard.records.versions import Outcome
from onlineguard.slidr.guardrails.promises import promised
from onlineguard.slidr.model import load_model
from onlineguard.slidr.pipeline import prepare
from onlineguard.slidr.registry.registry import Registry
from tests.support.keys import keys_file
from tests.support.real import Service

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
PASSED = Outcome("outages", "data", "passed", "purchases come as due", "people are learned by them", {"least": 0.97})
SKIPPED = Outcome("drift", "data", "skipped", "nothing is live", "training must be like traffic", {}, {"psi": 0.25})
FAILED = Outcome(HOSTILE, "candidate", "failed", f"far off {HOSTILE}", HOSTILE, {HOSTILE: 0.3}, {"most": 0.1})
PURCHASES = ("purchases_live", "purchases_candidate", "purchases")
INSIDE = """() => document.documentElement.scrollWidth <= innerWidth
    && [...document.querySelectorAll('dialog')].every((box) => box.scrollWidth <= box.clientWidth)"""


class Served(Service):
    """A service that follows a registry with two versions, of which the first is live and the second failed."""

    registry: Registry
    first: str
    second: str
    reader: str  # keys
    operator: str


def measured(name: str) -> dict[str, Any]:
    shares = {
        rate: {"hits": 1, "trials": 100, "value": value, "low": 0.0, "high": 1.0}
        for rate, value in (("ivr", 0.043), ("fpr", 0.0091), ("coverage", 0.62))
    }
    return {"name": name, "clicks": 900, "purchases": 50, "auc": 0.91, **shares}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, environment, frame, model_folder: Path, other_folder: Path
) -> Iterator[Served]:
    """Shared by the tests, each of which leaves the first version live."""
    folder = tmp_path_factory.mktemp("models-page")
    registry = Registry(folder / "registry")
    model = load_model(model_folder)
    prepared = prepare(frame, model.config)
    promises = promised(prepared, model, prepared.first, prepared.first, int(prepared.ts.max()) + 1)
    metrics = {"overall": measured("all"), "slices": [measured("mobile / US / true")]}
    outcomes = [PASSED, SKIPPED]
    first = registry.add(model_folder, metrics=metrics, guardrails=outcomes, promises=promises, who=HOSTILE).version
    second = registry.add(other_folder, guardrails=[*outcomes, FAILED], promises=promises).version
    registry.promote(first, HOSTILE)
    path, keys = keys_file(folder, reader=["score", "update"], operator=["admin"])
    flags = ("--registry", registry.url, "--keys", str(path), "--n-features", "1", "--registry-every", "600")
    service = Served(folder, environment, *flags, key=keys["reader"])
    service.registry, service.first, service.second = registry, first, second
    service.reader, service.operator = keys["reader"], keys["operator"]
    service.start()
    yield service
    service.kill()


@pytest.fixture
def opened(service: Served, page: Page) -> Iterator[Page]:
    """The view of the models, which ends without an error and has asked no other host."""
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(f"sessionStorage.setItem('onlineguard.key', '{service.reader}')")
    page.goto(f"{service.url}/#/models")
    expect(row(page, service.first)).to_contain_text("decides")
    yield page
    assert errors == []
    assert all(url.startswith(f"{service.url}/") for url in asked)
    expect(page).to_have_title("onlineguard")
    assert page.locator("img[src=x]").count() == 0


def percent(text: str) -> float:
    return float(text.removesuffix("%")) / 100


def row(page: Page, version: str) -> Locator:
    return page.locator("#versions tbody tr").filter(has=page.get_by_role("link", name=version, exact=True))


def test_a_version_opens_by_key_to_its_report_and_what_the_registry_holds_is_text(service: Served, opened: Page):
    page = opened
    expect(page.locator("#versions tbody th a")).to_have_text([service.second, service.first])  # the newest first
    expect(row(page, service.first)).to_contain_text(HOSTILE)  # who made it
    expect(row(page, service.second).locator(".outcome")).to_have_text(f"failed {HOSTILE}")
    expect(page.locator("#changes li")).to_contain_text(HOSTILE)  # why it was promoted
    expect(page.locator("#watch")).to_contain_text(f"{service.first} decides")
    expect(page.locator("#watch tbody tr").first).to_contain_text("All clicks")
    page.get_by_role("link", name=service.first, exact=True).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name=service.second)
    expect(panel.locator(".checks li strong")).to_have_text([HOSTILE, "drift", "outages"])  # what failed comes first
    failed = panel.locator(".checks li").first
    for part in ("failed", f"far off {HOSTILE}", f"{HOSTILE} 0.30", "most 0.10"):
        expect(failed).to_contain_text(part)
    expect(panel.locator(".checks li").nth(2)).to_contain_text("least 0.97")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.get_by_role("link", name=service.second, exact=True)).to_be_focused()
    row(page, service.first).click()
    panel = page.get_by_role("dialog", name=service.first)
    expect(panel.locator(".figures")).to_contain_text("0.91%")
    truth = service.get(f"/v1/registry/versions/{service.first}")
    slices = panel.locator("table tbody tr")
    expect(slices).to_have_count(len(truth["slices"]))
    expect(slices.first).to_contain_text("mobile / US / true")
    expect(panel).to_contain_text(f"{truth['trained']['clicks']:,} clicks")
    expect(panel.get_by_role("button", name="Promote")).to_be_hidden()  # it is current
    page.go_back()
    expect(panel).to_be_hidden()
    page.goto(f"{service.url}/#/models/none")
    expect(page.locator("#version .notice")).to_contain_text("Version is 'none'")


def test_two_versions_are_compared_side_by_side(service: Served, opened: Page):
    page = opened
    compare = page.get_by_role("button", name="Compare two")
    expect(compare).to_be_disabled()
    page.get_by_label(f"Compare {service.first}").check()
    page.get_by_label(f"Compare {service.second}").press("Space")
    compare.click()
    panel = page.get_by_role("dialog", name=f"{service.first} and {service.second}")
    truth = service.get(f"/v1/registry/diff?a={service.first}&b={service.second}")
    differ = sum(pair["a"] != pair["b"] for pair in truth["thresholds"])
    assert differ > 0
    expect(panel).to_contain_text(f"{differ} of {len(truth['thresholds'])} differ")
    expect(panel.locator("tr").filter(has_text="fpr")).to_contain_text("0.91%")
    expect(panel.locator("tr").filter(has_text="training clicks").locator("td")).to_have_count(2)


def test_a_promotion_asks_for_reason_and_key_and_is_undone_by_a_rollback(service: Served, opened: Page):
    page = opened
    page.goto(f"{service.url}/#/models/{service.second}")
    page.get_by_role("button", name="Promote …").click()
    asked = page.get_by_role("dialog", name=f"Promote {service.second}")
    expect(asked).to_contain_text(f"It failed {HOSTILE}")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type(f"announced {HOSTILE}")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # although guardrails failed
    page.keyboard.press("Tab")
    page.keyboard.type(service.reader)
    page.keyboard.press("Enter")
    expect(asked.get_by_role("alert")).to_have_text("The key reader has not the scope admin; it has score, update.")
    page.get_by_label("Key with the scope admin").fill(service.operator)
    page.keyboard.press("Enter")
    expect(asked).to_be_hidden()
    expect(page.locator("#version .notice")).to_have_text(
        f"Change 2 by operator: {service.second} is current. It decides now."
    )
    page.keyboard.press("Escape")
    expect(row(page, service.second)).to_contain_text("decides")
    expect(row(page, service.first)).to_contain_text("previous")
    expect(page.locator("#model")).to_have_text(service.second)
    change = page.locator("#changes li").first
    for part in (f"Promoted {service.second} past {HOSTILE}", f"announced {HOSTILE}", "by operator"):
        expect(change).to_contain_text(part)
    assert page.evaluate("Object.values(sessionStorage)") == [service.reader]  # the other key is in memory only
    page.get_by_role("button", name="Roll back").click()
    asked = page.get_by_role("dialog", name=f"Roll back to {service.first}")
    page.get_by_label("Reason").fill("twice the false positives")
    service.registry.rollback("meanwhile by somebody else", who="cron")
    service.registry.promote(service.second, "again", who="cron", force=True)
    asked.get_by_role("button", name="Roll back").click()  # with the key that is remembered
    expect(asked.get_by_role("alert")).to_contain_text(f"cron made {service.second} current (again); look again")
    asked.get_by_role("button", name="Cancel").click()
    expect(page.locator("#changes li").first).to_contain_text("again")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_label("Reason").fill("twice the false positives")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#changes li").first).to_contain_text(f"Rolled back to {service.first}")
    expect(row(page, service.first)).to_contain_text("decides")
    assert service.registry.head().why == "twice the false positives"


def test_a_candidate_is_tried_beside_the_live_model_and_compared_until_the_trial_is_ended(
    service: Served, opened: Page, clicks
):
    page = opened
    expect(page.locator("#trial")).to_contain_text("No candidate was tried yet")
    page.goto(f"{service.url}/#/models/{service.second}")
    page.get_by_role("button", name="Try beside …").click()
    asked = page.get_by_role("dialog", name=f"Try {service.second}")
    expect(page.get_by_label("Users whose clicks it decides")).to_have_value("0")
    page.get_by_label("Users whose clicks it decides").fill("40")
    page.get_by_label("Key with the scope admin").fill(service.operator)
    page.keyboard.press("Enter")
    expect(asked).to_be_hidden()
    expect(page.locator("#version .notice")).to_have_text(f"{service.second} is on trial.")
    page.keyboard.press("Escape")
    trial = page.locator("#trial")
    expect(trial).to_contain_text("decides the clicks of 40.0% of the users")
    service.post("/v1/clicks", clicks[:400])
    service.post("/v1/labels", [{"click_id": click.click_id, "purchase_ts": click.ts} for click in clicks[:40]])
    truth = service.get("/v1/trial")
    both = truth["overall"]
    assert both["clicks"] == 400
    assert both["live"] != both["candidate"]
    figures = trial.locator(".figures > div")
    expect(figures.nth(3)).to_contain_text(f"{both['purchases_live']}, of {both['purchases']}")
    expect(figures.nth(3).locator("dd")).to_have_text(str(both["purchases_candidate"]))
    expect(figures.nth(2).locator("dd")).to_have_text(str(both["only_candidate"]))
    expect(figures.nth(2)).to_contain_text(f"only by the live model {both['only_live']}")
    assert percent(figures.nth(1).locator("dd").inner_text()) == pytest.approx(
        both["candidate"] / 400, abs=5.001e-4
    )  # shown to a tenth of a percent
    expect(trial).to_contain_text(f"The candidate decided {both['by_candidate']['clicks']} clicks")
    trial.get_by_text(f"{len(truth['slices'])} slices").click()
    slices = trial.locator("details").first.locator("tbody tr")
    expect(slices).to_have_count(len(truth["slices"]))
    first = truth["slices"][0]
    expect(slices.first.locator("th")).to_have_text(first["of"])
    shown = [first["only_live"], first["only_candidate"], *(first[name] for name in PURCHASES)]
    assert slices.first.locator("td").all_inner_texts()[3:8] == list(map(str, shown))
    trial.get_by_role("button", name="End the trial …").click()
    page.keyboard.press("Tab")
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(trial).to_contain_text(f"{service.second} was on trial beside {service.first} until")
    assert service.get("/v1/trial")["running"] is False


def test_a_registry_that_is_away_is_told_in_a_sentence_and_the_watch_goes_on(service: Served, opened: Page):
    page = opened
    folder = Path(service.registry.url)
    away = folder.rename(folder.with_name("away"))
    try:
        expect(page.locator("#models-notice")).to_contain_text("The registry cannot be used now: ")
        expect(page.locator("#models-notice")).to_contain_text("These are the last known versions.")
        clicked = service.get("/v1/watch")["clicks"]
        service.post("/v1/clicks", [{**CLICK, "click_id": f"away-{clicked}"}])
        expect(page.locator("#watch")).to_contain_text(f"{clicked + 1} clicks")
    finally:
        away.rename(folder)
    expect(page.locator("#models-notice")).to_be_hidden()


CLICK = {
    "ts": 1_772_000_000_000,
    "ip": "192.0.2.1",
    "user_agent": "u",
    "device": "mobile",
    "marketplace": "US",
    "ad_id": "ad",
    "logged_in": True,
}


def test_without_a_registry_it_says_how_to_get_one(service: Served, opened: Page):
    page = opened
    state = service.get("/v1/registry")
    live = [each | {"made": None, "who": None} for each in state["versions"] if each["version"] == state["live"]]
    none = {"registry": None, "current": None, "previous": None, "versions": live, "total": 1}
    page.route("**/v1/registry?*", lambda route: route.fulfill(json=state | none))
    expect(page.locator("#registry")).to_contain_text("--registry FOLDER")
    expect(page.get_by_role("button", name="Roll back")).to_be_hidden()
    expect(row(page, service.first)).to_contain_text("decides")
    page.unroute_all()


def test_nothing_is_wider_than_a_phone_in_the_dark(service: Served, opened: Page):
    page = opened
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 780})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(12, 16, 21)"
    assert page.evaluate(INSIDE)
    for address in (service.second, f"{service.first}/{service.second}"):
        page.goto(f"{service.url}/#/models/{address}")
        expect(page.locator("#version section")).not_to_have_count(0)
        assert page.evaluate(INSIDE)
    page.goto(f"{service.url}/#/models/{service.second}")
    page.get_by_role("button", name="Promote …").click()
    assert page.evaluate(INSIDE)


def test_the_api_is_described_without_another_host(service: Served, opened: Page):
    page = opened
    page.get_by_role("link", name="API").click()
    document = service.get("/openapi.json")
    expect(page.locator("#operations section")).to_have_count(sum(map(len, document["paths"].values())))
    expect(page.locator("#schemas section")).to_have_count(len(document["components"]["schemas"]))
    promote = page.locator("#post-v1-registry-promote")
    expect(promote).to_contain_text("Needs a key with the scope admin")
    promote.get_by_role("link", name="Promotion").click()
    expect(page.locator("#schema-Promotion")).to_be_in_viewport()
    expect(page.locator("#schema-Promotion tr").filter(has_text="force")).to_contain_text("By default false.")
    page.set_viewport_size({"width": 360, "height": 780})
    assert page.evaluate(INSIDE)
    page.get_by_role("link", name="Models").click()
    expect(row(page, service.first)).to_be_visible()
