"""The page in a real Chromium, against the real service.

What this service does not do by itself is shown from an answer that was made up: that it is not ready, a model with an
endless version, parts that are degraded, and streams that have no slices.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from onlineguard_service.http.auth import new_key
from playwright.sync_api import Locator, Page, Route, expect

from tests.support.browser import faint_texts, too_wide
from tests.support.real import Service, usual

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
PATIENCE = 60_000  # ms for a service that is started again while others use the machine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, environment, model_folder: Path) -> Iterator[Service]:
    """Shared by the tests, each of which has slices of its own."""
    service = Service(tmp_path_factory.mktemp("page"), environment, "--model", str(model_folder), "--n-features", "1")
    service.start()
    yield service
    service.kill()


def row(page: Page, name: str) -> Locator:
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=name, exact=True))


def only(page: Page, part: str) -> None:
    """Show the slices whose names have this part."""
    page.get_by_role("searchbox").fill(part)


def shows_order(page: Page, expected: list[str]) -> None:
    expect(page.locator("tbody th a")).to_have_text(expected)


def made_up(page: Page, version: str = "m", events: int = 3, clicks: int = 3, **parts: object) -> None:
    """Let the page be sent one tick, which says this of the parts of the service, over a stream that stays open."""
    now = 1_800_000_000_000
    tick = {"t": now, "model_version": version, "marks": [{"t": now, "model_version": version}], "started": now}
    tick |= {"rates": {"events": 1e5 * (events > 0), "clicks": 1e5 * (clicks > 0)}, "ivr": 0.123 if clicks else None}
    journal = {"sequence": 1_234_567, "age": 0.1, "lag": 0.0, "bytes": 10, "waiting": 0, "slow": False}
    snapshot = {"sequence": 1_234_567, "t": now - 90_000, "behind": 0.0, "every": 60.0, "failures": 0}
    known = {"journal": journal, "snapshot": snapshot, "degraded": [], "syncs": {"count": 4, "seconds": 0.01}}
    known |= {"slices": {"events": events, "clicks": clicks}, "redis": None, "failures": None}
    tick |= {"latency": {"p50": 0.25, "p99": 1e4}, "reasons": [], "parts": known | parts}
    page.add_init_script(
        f"const [asked, said] = [fetch, {json.dumps(f'data: {json.dumps(tick)}' + 2 * chr(10))}];"
        """
        const stream = () => new ReadableStream({ start: (to) => to.enqueue(new TextEncoder().encode(said)) });
        window.fetch = (path, ...rest) =>
          path === 'v1/live' ? Promise.resolve(new Response(stream())) : asked(path, ...rest);
        """
    )


def shown(page: Page, what: str) -> list[str]:
    return page.locator(f"{what}:visible").all_text_contents()


def alarms(service: Service, name: str) -> int:
    """How many the service keeps in the history of a slice of events."""
    return sum(service.slice("events", name)["history"]["anomalous"])


def percent(share: float) -> str:
    """As the page shows a share."""
    return f"{100 * share:.0f}%" if share in (0.0, 1.0) else f"{100 * share:.1f}%"


def test_it_loads_without_an_error_and_asks_no_other_host(service: Service, page: Page, clicks):
    errors: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    answers = service.post("/v1/clicks", clicks[:600])
    name = max((answer["slice"] for answer in answers if answer["decision"] == "robotic"), key=str)
    truth = service.slice("clicks", name)
    page.goto(f"{service.url}/#/clicks")
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(page.locator("#model")).to_have_text(answers[0]["model_version"])
    expect(row(page, name).locator(".events")).to_have_text(str(truth["events"]))
    expect(row(page, name).locator(".ivr")).to_have_text(percent(truth["ivr"]))
    row(page, name).click()
    expect(page.locator("#panel .figures")).to_contain_text(percent(truth["ivr"]))
    robots = sum(p > truth["robot_threshold"] for p in truth["history"]["p_robot"])
    assert robots > 0
    expect(page.locator("#panel")).to_contain_text(f"{robots} of the last {len(truth['history']['ts'])} clicks")
    flagged = sum(truth["history"]["anomalous"])
    expect(page.locator("#panel .points circle")).to_have_count(robots + flagged)
    assert errors == []
    assert len(asked) > 8  # the page, its files, the stream, the slices
    assert all(url.startswith(f"{service.url}/") for url in asked)


def test_its_numbers_follow_what_arrives(service: Service, page: Page):
    service.events("numbers", usual(150))
    page.goto(f"{service.url}/#/events")
    only(page, "numbers")
    expect(row(page, "numbers").locator(".events")).to_have_text("150")
    rate = page.locator(".chart dd").first
    expect(rate).to_have_text("0/s")
    latency = page.locator(".chart dd").nth(2)
    for n in range(4):
        service.events("numbers", [0.5, 40.0 + n])
        page.wait_for_timeout(300)
    expect(rate).to_have_text("0/s")
    expect(latency).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
    truth = service.slice("events", "numbers")
    assert truth["anomalies"] >= 4
    expect(row(page, "numbers").locator(".events")).to_have_text("158")
    expect(row(page, "numbers").locator(".anomalies")).to_have_text(str(truth["anomalies"]))
    expect(row(page, "numbers").locator(".drift")).to_contain_text(f"{100 * truth['drift']:.1f}%")
    expect(row(page, "numbers").locator(".score")).to_have_text(f"{truth['score']:.1f}")
    expect(row(page, "numbers").locator(".threshold")).to_have_text(f"{truth['threshold']:.2f}")
    plot = page.get_by_role("slider", name="Events a second")
    expect(plot.locator("path.line").first).to_have_attribute("d", re.compile(r"^M[\d. ]+(L[\d. ]+){2,}"))
    plot.focus()  # the crosshair reads the values out, one tick a press
    read = []
    for _ in range(8):
        plot.press("ArrowLeft")
        read.append(plot.get_attribute("aria-valuetext") or "")
    expect(plot.locator(".tip")).to_be_visible()
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d: events [\d.]+/s", each) for each in read), read
    assert any("events 0/s" not in each for each in read), read


def test_it_sorts_by_clicking_and_by_the_keyboard_alone(service: Service, page: Page):
    service.events("sorted-a", [*usual(130), 5.0])
    service.events("sorted-b", [*usual(120), 50.0])
    service.events("sorted-c", [*usual(150), 0.0])
    page.goto(f"{service.url}/#/events")
    only(page, "sorted-")
    shows_order(page, ["sorted-c", "sorted-a", "sorted-b"])  # the busiest first
    page.get_by_role("button", name="Seen").click()
    shows_order(page, ["sorted-b", "sorted-a", "sorted-c"])
    page.get_by_role("button", name="Score").click()
    shows_order(page, ["sorted-b", "sorted-a", "sorted-c"])
    page.get_by_role("button", name="Score").click()
    shows_order(page, ["sorted-c", "sorted-a", "sorted-b"])
    expect(page.locator("th.score")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="Slice", exact=True).focus()
    page.keyboard.press("Enter")
    shows_order(page, ["sorted-a", "sorted-b", "sorted-c"])
    expect(page.locator("#table thead th.name")).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Space")
    shows_order(page, ["sorted-c", "sorted-b", "sorted-a"])


def test_it_filters_by_name_and_shows_more_when_asked(service: Service, page: Page):
    service.post("/v1/update", [{"slice": f"sensor-{n:03d}", "x": [1.0]} for n in range(120)])
    total = service.get("/v1/slices?of=events")["total"]
    assert 120 <= total <= 200
    page.goto(f"{service.url}/#/events")
    expect(page.locator("tbody tr")).to_have_count(100)
    expect(page.locator("#shown")).to_have_text(f"100 of {total} slices")
    page.get_by_role("button", name="Show 100 more").click()
    expect(page.locator("tbody tr")).to_have_count(total)
    only(page, "SENSOR-11")
    expect(page.locator("tbody tr")).to_have_count(10)
    expect(page.locator("#shown")).to_have_text(f"10 of {total} slices match")


def test_a_slice_opens_by_key_with_its_alarms_and_closes_back_to_its_row(service: Service, page: Page):
    service.events("opened-quiet", usual(3))
    service.events("opened-odd", [*usual(300), 50.0, 60.0])
    expected = alarms(service, "opened-odd")
    assert expected >= 2
    page.goto(f"{service.url}/#/events")
    only(page, "opened-")
    link = page.get_by_role("link", name="opened-odd", exact=True)
    link.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="opened-quiet", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="opened-odd")
    expect(panel).to_be_visible()
    expect(page).to_have_url(f"{service.url}/#/events/opened-odd")
    expect(panel.locator(".points circle")).to_have_count(expected)
    expect(panel).to_contain_text(f"The last 256 events, oldest left. {expected} alarms")
    expect(panel.locator(".drivers li").first).to_be_visible()
    plot = panel.get_by_role("slider", name="Score against threshold")
    plot.focus()
    plot.press("End")
    truth = service.slice("events", "opened-odd")
    expect(plot.locator(".tip")).to_contain_text("alarm")
    expect(plot.locator(".tip")).to_contain_text(f"{truth['threshold']:.2f}")
    service.events("opened-odd", [70.0])
    expected = alarms(service, "opened-odd")
    assert expected >= 3
    expect(panel.locator(".points circle")).to_have_count(expected)  # it goes on while it is open
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(link).to_be_focused()
    expect(page).to_have_url(f"{service.url}/#/events")
    page.goto(f"{service.url}/#/events/opened-quiet")
    page.reload()
    expect(page.get_by_role("dialog", name="opened-quiet")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(f"{service.url}/#/events/none")
    expect(page.get_by_role("dialog", name="none")).to_contain_text("knows no such slice")


def test_a_name_that_looks_like_html_is_shown_as_text(service: Service, page: Page):
    service.events(HOSTILE, [1.0])
    service.events(["eu", 7], [1.0])
    page.goto(f"{service.url}/#/events")
    only(page, "onerror")
    shows_order(page, [HOSTILE])
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("#panel h2")).to_have_text(HOSTILE)
    expect(page.locator("#panel .points")).to_have_count(1)
    assert page.locator("img[src=x]").count() == 0
    expect(page).to_have_title("onlineguard")
    page.keyboard.press("Escape")
    only(page, '"eu"')
    page.get_by_role("link", name='["eu",7]').click()
    expect(page.locator("#panel .figures")).to_contain_text("1")


def test_a_switch_of_the_model_is_marked_and_told(service: Service, page: Page, model_folder, other_folder):
    first = service.post("/v1/model", {"folder": str(model_folder)})["model_version"]
    page.goto(service.url)
    expect(page.locator("#model")).to_have_text(first)
    second = service.post("/v1/model", {"folder": str(other_folder)})["model_version"]
    assert second != first
    expect(page.locator("#model")).to_have_text(second)
    for chart in page.locator(".chart:visible").all():
        expect(chart.locator(".marks text").filter(has_text=f"model {second}")).to_be_visible()
    expect(page.get_by_role("status").first).to_have_text(f"The model was switched to {second}.")


def test_it_survives_a_restart_of_the_service_and_says_so(service: Service, page: Page):
    service.events("restarted-a", [1.0, 2.0])
    page.goto(f"{service.url}/#/events")
    only(page, "restarted-")
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(row(page, "restarted-a").locator(".events")).to_have_text("2")
    service.kill()
    expect(page.locator("#state-text")).to_contain_text("Reconnecting")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("connection to the service was lost")
    expect(row(page, "restarted-a")).to_be_visible()  # what was known stays in sight
    service.start()
    expect(page.locator("#state-text")).to_have_text("Live", timeout=PATIENCE)
    service.events("restarted-a", [3.0])
    service.events("restarted-b", [1.0, 2.0])
    expect(row(page, "restarted-a").locator(".events")).to_have_text("3")  # nothing that was answered is lost
    expect(row(page, "restarted-b").locator(".events")).to_have_text("2")
    expect(page.locator(".marks text.restart").first).to_be_visible()


def test_a_service_that_is_not_ready_is_quoted_until_it_is(service: Service, page: Page):
    reason = "programs are compiled and the state is recovered"
    problem = {"title": "Not ready", "status": 503, "detail": reason}
    refused = 0

    def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        route.fulfill(status=503, json=problem)

    page.route("**/v1/live", refuse)
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text(f"Not ready: {reason}")
    expect(page.locator("#starting")).to_contain_text("Programs are compiled and the state is recovered.")
    expect(page.locator(".slices")).to_be_hidden()
    while refused < 5:  # then the page would wait 6 s or more, and the button is there to be clicked
        page.wait_for_timeout(100)
    page.unroute_all()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(page.locator("#starting")).to_be_hidden()
    expect(page.locator(".slices")).to_be_visible()


def test_the_journal_and_the_snapshots_are_shown_as_they_are(service: Service, page: Page):
    service.events("kept", [1.0])
    sequence = service.post("/v1/snapshot", {})["sequence"]
    page.goto(service.url)
    journal, snapshot = (page.locator(f"[data-part={part}]") for part in ("journal", "snapshot"))
    expect(journal).to_contain_text(re.compile(rf"Up to date.*entry {sequence:,}, sync [\d.]+ ms"))
    expect(snapshot).to_contain_text(re.compile(r"(now|\d+ s ago).*nothing has changed since"))
    service.events("kept", [1.0])
    expect(journal).to_contain_text(f"entry {sequence + 1:,}")
    expect(snapshot).to_contain_text("1 entry since, next within")
    expect(page.locator("[data-part=counters]")).to_be_hidden()  # there is no Redis
    expect(page.locator("#degraded")).to_be_hidden()


def test_what_is_degraded_is_told_and_its_part_is_marked(service: Service, page: Page):
    degraded = ["counters: TimeoutError: no answer", "history: a restart completes it"]
    redis = {"counters": {"count": 4, "seconds": 0.002}, "journal": {"count": 1, "seconds": 0.003}}
    made_up(page, degraded=degraded, redis=redis, failures={"counters": 7, "journal": 0})
    page.goto(service.url)
    expect(page.locator("#state-text")).to_have_text("Live, degraded")
    expect(page.locator("#degraded")).to_have_text(
        "Counters: TimeoutError: no answer. History: a restart completes it."
    )
    expect(page.locator("[data-part=counters]")).to_have_attribute("data-state", "waiting")
    expect(page.locator("[data-part=counters]")).to_contain_text("1 msa round trip, of counters and journal, 7 failed")
    expect(page.locator("[data-part=journal]")).to_have_attribute("data-state", "live")
    expect(page.locator("[data-part=snapshot]")).to_contain_text("1 min ago")


@pytest.mark.parametrize("of", ["events", "clicks"])
def test_nothing_is_shown_of_a_stream_that_has_no_slices(service: Service, page: Page, of: str, clicks):
    service.post("/v1/clicks", clicks[:20])
    service.events("only", [1.0])
    other = "clicks" if of == "events" else "events"
    made_up(page, **{of: 2, other: 0})
    none = {"slices": [], "total": 0, "found": 0}
    page.route(f"**/v1/slices?of={other}&*", lambda route: route.fulfill(json=none))
    page.goto(service.url)
    expect(page.locator("tbody tr").first).to_be_visible()
    charts = {"events": ["Events", "Latency"], "clicks": ["Clicks", "Latency", "Invalidation rate"]}
    assert shown(page, ".chart h2") == charts[of]
    assert shown(page, ".tabs button") == [f"{of.capitalize()}{service.get(f'/v1/slices?of={of}')['total']}"]
    if of == "clicks":
        assert "FPR" not in shown(page, "thead th")  # nothing was purchased


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_at_every_width_all_columns_are_seen_and_nothing_is_wider(service: Service, page: Page, width: int, clicks):
    long, version = "an-endless-name-" * 20, "a-version-" * 12
    service.events(long, [*usual(150), 1e9, 0.5])
    service.post("/v1/clicks", clicks[:20])
    made_up(
        page, version, degraded=["journal: " + "a sync goes on " * 9], redis={"counters": {"count": 1, "seconds": 9}}
    )
    page.set_viewport_size({"width": width, "height": 800})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for of in ("clicks", "events"):
            page.goto(f"{service.url}/#/{of}")
            expect(page.locator("tbody tr").first).to_be_visible()
            expect(page.locator("#model")).to_have_text(version)
            titles = (
                page.locator("tbody tr")
                .first.locator("td:visible")
                .evaluate_all("all => all.map((at) => at.dataset.title)")
            )
            judged = ["IVR", "P(robot)", "Limit"] if of == "clicks" else []
            assert titles == ["Seen", "Anomalies", "Drift", "Score", "Threshold", *judged, "Last seen"]
            assert too_wide(page) == []
            assert faint_texts(page) == []
    only(page, long)
    page.get_by_role("link", name=long).click()
    expect(page.locator("#panel .points circle")).to_have_count(alarms(service, long))
    expect(page.locator("#panel")).to_contain_text("Logarithmic axis")
    assert too_wide(page) == []


def test_without_data_it_teaches_how_to_send_some_and_keeps_the_key_it_asks_for_in_its_tab(
    tmp_path: Path, environment, model_folder: Path, page: Page
):
    key, lines = new_key("team", ["score", "update"])
    (tmp_path / "keys.toml").write_text(lines)
    flags = ("--model", str(model_folder), "--keys", str(tmp_path / "keys.toml"), "--n-features", "1")
    service = Service(tmp_path, environment, *flags, key=key)
    service.start()
    try:
        page.goto(service.url)
        question = page.get_by_role("dialog", name="This service asks for a key")
        expect(question).to_be_visible()
        expect(page.locator("#state-text")).to_have_text("Key needed")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter a key").click()
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(question).to_contain_text("not accepted")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#state-text")).to_have_text("Live")
        expect(page.locator("#empty")).to_contain_text("No clicks yet")
        expect(page.locator("#empty pre")).to_contain_text(f"curl {service.url}/v1/clicks")
        page.get_by_role("button", name="Events").click()
        expect(page.locator("#empty pre")).to_contain_text(f"curl {service.url}/v1/update")
        service.events("a", [1.0])
        expect(row(page, "a")).to_be_visible()
        expect(page.locator("#empty")).to_be_hidden()
        assert page.evaluate("[Object.values(sessionStorage), localStorage.length]") == [[key], 0]
        page.goto(service.url)
        page.reload()
        expect(page.locator("#state-text")).to_have_text("Live")
        expect(question).to_be_hidden()
        events = page.get_by_role("button", name="Events")
        expect(events).to_have_attribute("aria-pressed", "true")  # there are no clicks
    finally:
        service.kill()
