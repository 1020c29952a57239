"""The report of a SLIDR evaluation, as a reader of its HTML sees it."""

import re

import numpy as np
import pytest

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.evaluation.evaluation import NONE, Evaluation, compare, evaluate, hourly_fpr
from onlineguard.slidr.evaluation.report import CURVES, ROWS, Extras, write_report
from tests.support.pages import Page
from tests.support.slidr_evaluations import KEYS, calibration_of, made


def evaluated(n: int = 6_000, keys=KEYS, **changes) -> Evaluation:
    clicks = made(n, slices=len(keys))
    given = {
        "p_robot": clicks.p,
        "slice_ids": clicks.codes,
        "human": clicks.human,
        "heavy": clicks.heavy,
        "truth": clicks.robot,
    }
    return evaluate(slice_keys=keys, calibration=calibration_of(clicks), **given | changes)


def written(path, evaluation: Evaluation, **given) -> Page:
    write_report(path / "report.html", evaluation, **given)
    assert [file.name for file in path.iterdir()] == ["report.html"]
    return Page(path / "report.html").check()


def path_of(page: Page, chart: str, kind: str) -> str:
    """The data of the path of a class within a chart."""
    drawing = page.source.split(f'id="{chart}"')[1].split("</svg>")[0]
    return re.findall(f'<path class="{kind}" d="([^"]*)"', drawing)[0]


def rows_of(page: Page, label: str) -> list[list[str]]:
    table = page.source.split(f'aria-label="{label}"')[1].split("</table>")[0]
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:])
    return [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in cells]


def test_a_page_shows_every_part_and_no_part_that_was_not_given(tmp_path):
    e = evaluated()
    clicks = made(6_000)
    hour = np.arange(6_000) % 24
    hourly = {name: hourly_fpr(clicks.p > at, clicks.human, hour) for name, at in (("with", 0.7), ("without", 0.5))}
    extras = Extras(hourly=hourly, comparison=compare({"network": e, "rule": e}), losses=[0.7, 0.5, np.nan, 0.4])
    full = written(tmp_path, e, title="Week 3", facts={"seed": "7"}, extras=extras)
    parts = {"curves", "reliability", "weights", "comparison", "training", "run"}
    assert {attrs["id"] for attrs in full.all("h2") if "id" in attrs} == parts
    assert full.texts["title"][0] == full.texts["h1"][0] == "Week 3"
    bare = written(tmp_path, e)
    assert {attrs["id"] for attrs in bare.all("h2") if "id" in attrs} == {"curves", "reliability"}
    assert "script" not in full.source
    assert "default-src 'none'" in full.source


def test_the_tables_show_the_measures_of_the_evaluation(tmp_path):
    e = evaluated()
    rows = rows_of(written(tmp_path, e), "Slices")
    assert rows[0][-3:] == ["Recall", "Precision", "True FPR"]
    for row, group in zip(rows[1:], e.largest(), strict=True):
        assert row[:2] == [group.name, f"{group.clicks:,}"]
        assert row[3] == f"{group.threshold:.5f}"
        assert row[5] == f"{group.fpr.value:.2%} {100 * group.fpr.low:.2f} to {100 * group.fpr.high:.2f}"
    assert rows_of(written(tmp_path, evaluated(truth=None)), "Slices")[0][-1] == "Coverage"


def test_the_comparison_shows_its_rows_as_they_are(tmp_path):
    e = evaluated()
    rows = compare({"network": e, "velocity <rule>": e})
    shown = rows_of(written(tmp_path, e, extras=Extras(comparison=rows)), "Scorers")
    assert shown[0] == list(rows[0])
    assert shown[2][0] == "velocity &lt;rule&gt;"
    assert shown[1][1] == rows[0]["IVR"].replace(" (", " ").replace(")", "")


def test_the_point_of_a_slice_stands_at_its_rates(tmp_path):
    e = evaluated()
    page = written(tmp_path, e)
    for number, group in enumerate(e.largest(), 1):
        x, y = map(int, re.fullmatch(r"M(\d+) (\d+)h0", path_of(page, f"s{number}", "mark dot alarm")).groups())
        assert x == pytest.approx(720 * np.sqrt(group.fpr.value), abs=1)
        assert y == pytest.approx(1_000 * (1 - group.ivr.value), abs=1)
    budget = re.match(r"M(\d+) 0v1000", path_of(page, "s0", "threshold"))
    assert int(budget[1]) == round(720 * np.sqrt(0.02))


def test_text_of_slices_titles_facts_and_names_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&\x00"
    e = evaluated(keys=[evil, ("a", evil), "c", "d"])
    share = hourly_fpr(np.zeros(5, bool), np.ones(5, bool), np.arange(5))
    extras = Extras(hourly={evil: share}, comparison=[{evil: evil, "IVR": f"1 ({evil})"}])
    page = written(tmp_path, e, title=evil, facts={evil: evil}, extras=extras)
    assert "<script" not in page.source
    assert "\x00" not in page.source
    assert page.texts["title"][0] == "<script>alert('x')</script>&\ufffd"


def test_slices_without_purchases_robots_or_clicks_have_dashes_and_no_curve(tmp_path):
    clicks = made(6_000)
    codes = np.where(clicks.codes == 2, 0, clicks.codes)
    e = evaluated(
        slice_ids=codes,
        human=clicks.human & (codes != 1),
        heavy=np.zeros(6_000, bool),
        truth=clicks.robot & (codes != 1),
    )
    page = written(tmp_path, e)
    rows = {row[0]: row for row in rows_of(page, "Slices")}
    assert rows["mobile / US / True"][5:8] == [NONE, NONE, NONE]
    assert "tablet" not in rows
    small = {row[0]: row for row in rows_of(page, "Small slices")}
    assert small["tablet"][4:] == [NONE] * 6
    drawn = {attrs["id"] for attrs in page.all("div") if re.fullmatch(r"s\d+", attrs.get("id", ""))}
    assert drawn == {"s0", "s1", "s2"}
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page.source.lower(), flags=re.DOTALL)


def test_without_any_purchase_the_page_says_so(tmp_path):
    page = written(tmp_path, evaluated(human=np.zeros(6_000, bool), truth=None))
    assert "No purchasing click, so no curves." in page.source
    assert "nothing can be said of the budget" in page.source
    assert not [attrs for attrs in page.all("div") if attrs.get("id") == "s0"]


def test_hundreds_of_slices_leave_the_page_bounded_and_say_what_is_left_out(tmp_path):
    e = evaluated(60_000, keys=[f"slice {code}" for code in range(400)])
    page = written(tmp_path, e)
    rows = rows_of(page, "Slices")[1:]
    assert len(rows) == ROWS < 400
    assert [row[0] for row in rows] == [group.name for group in e.largest()[:ROWS]]
    rest = sum(group.clicks for group in e.largest()[ROWS:]) / 60_000
    assert f"the other {400 - ROWS} hold {rest:.1%} of the clicks" in page.source
    drawn = [attrs["id"] for attrs in page.all("div") if re.fullmatch(r"s\d+", attrs.get("id", ""))]
    assert len(drawn) == CURVES + 1
    assert len(page.source) < 200_000


def test_hours_without_purchases_are_left_out_of_the_drawing_but_not_of_the_table(tmp_path):
    clicks = made(6_000)
    hour = np.arange(6_000) % 20
    shares = hourly_fpr(clicks.p > 0.5, clicks.human, hour)
    page = written(tmp_path, evaluated(), extras=Extras(hourly={"with": shares, "without": shares}))
    assert path_of(page, "h0", "mark dot series").count("h0") == 20
    assert path_of(page, "h0", "mark dot alarm").count("h0") == 20
    rows = rows_of(page, "FPR by hour")[1:]
    assert [row[0] for row in rows] == [str(h) for h in range(24)]
    assert rows[23] == ["23", "0", NONE, "0", NONE]
    assert rows[3][1] == f"{shares[3].trials:,}"
    empty = hourly_fpr(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, int))
    assert path_of(written(tmp_path, evaluated(), extras=Extras(hourly={"with": empty})), "h0", "mark series") == ""


def test_the_rate_of_each_hour_stands_at_its_height(tmp_path):
    clicks = made(20_000)
    shares = hourly_fpr(clicks.p > 0.5, clicks.human, np.arange(20_000) % 24)
    page = written(tmp_path, evaluated(), extras=Extras(hourly={"with": shares}))
    points = re.findall(r"M(\d+) (\d+)h0", path_of(page, "h0", "mark dot series"))
    height = np.array([1_000 - int(y) for _, y in points])
    value = np.array([share.value for share in shares])
    np.testing.assert_allclose(height / height.max(), value / value.max(), atol=0.003)
    assert [int(x) // 30 for x, _ in points] == list(range(24))


@pytest.mark.parametrize("losses", [[], [0.5], [np.nan, np.nan], np.linspace(1, 0.1, 5_000), [1e30, 0.1, 0.2]])
def test_any_loss_curve_gives_a_page(tmp_path, losses):
    page = written(tmp_path, evaluated(2_000), extras=Extras(losses=losses))
    assert ('id="training"' in page.source) == (len(losses) > 0)


@pytest.mark.parametrize(
    ("marked", "verdict"),
    [
        (0.0, "is kept</strong>, over the whole interval"),
        (0.018, "is kept</strong>; the interval reaches beyond it"),
        (0.022, "is exceeded</strong>, within what chance explains"),
        (0.1, "is exceeded</strong>, by more than chance explains"),
    ],
)
def test_the_page_says_whether_the_budget_held(tmp_path, marked, verdict):
    n = 2_000
    scores = np.where(np.arange(n) < round(n * marked), 1.0, 0.0)
    e = evaluated(p_robot=scores, slice_ids=np.zeros(n, int), human=np.ones(n, bool), heavy=None, truth=None)
    assert e.budget == 0.02
    assert f"The budget of 2.00% {verdict}" in written(tmp_path, e).source


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(InvalidArgument, match="where no report can be written"):
        write_report(tmp_path / "absent" / "report.html", evaluated(2_000))


def test_slices_over_the_cap_are_marked_in_the_table_and_counted_above_it(tmp_path):
    n = 4_000
    codes, human = np.arange(n) % 2, np.ones(n, bool)
    scores = np.where((codes == 1) & (np.arange(n) < 600), 1.0, 0.0)  # 15 % of one slice, none of the other
    options = {"slice_ids": codes, "human": human, "heavy": None, "truth": None}
    e = evaluated(p_robot=scores, **options)
    assert e.cap == pytest.approx(0.06)
    assert [group.over_cap for group in e.slices] == [False, True, False, False]
    page = written(tmp_path, e)
    assert "<strong>1 slice over the cap of 6.00%</strong>, 1 of them by more than chance explains" in page.source
    assert page.source.count("over the cap</strong></small>") == 1
    assert sorted(row["cap"] for row in e.table()) == ["", "", "", "", "over"]
    kept = written(tmp_path, evaluated(p_robot=np.zeros(n), **options))
    assert "No slice is over its cap of 6.00%." in kept.source


def test_the_chart_comes_before_the_table_and_the_words_are_explained(tmp_path):
    source = written(tmp_path, evaluated()).source
    assert source.index('id="s0"') < source.index('aria-label="Slices"')
    for word in ("IVR", "FPR", "Coverage", "AUC", "Knee", "Cap", "True recall"):
        assert f"<dt>{word}</dt>" in source
    assert "<dt>True recall</dt>" not in written(tmp_path, evaluated(truth=None)).source


def test_what_the_truth_says_of_budget_and_cap_is_said_where_purchases_do_not_show_it(tmp_path):
    n = 4_000
    codes = np.arange(n) % 2
    scores = np.where((codes == 1) & (np.arange(n) < 600), 1.0, 0.0)  # 15 % of one slice, none of whom buys
    options = {"p_robot": scores, "slice_ids": codes, "human": np.arange(n) >= 600, "heavy": None}
    hidden = evaluated(truth=np.zeros(n, bool), **options)
    sentence = (
        "by the truth 7.50% of people's clicks are marked, above the budget of 2.00% and 1 slice is over the cap of "
        f"6.00%, most of all {hidden.slices[1].name} (15.00%); purchases do not show it"
    )
    assert sentence in hidden.unseen()
    source = written(tmp_path, hidden).source
    assert "The budget of 2.00% is kept" in source
    assert "But by the truth 7.50% of people&#x27;s clicks are marked" in source
    assert evaluated(truth=scores > 0.5, **options).unseen() is None
    assert evaluated(truth=None, **options).unseen() is None
    seen = evaluated(truth=np.zeros(n, bool), **options | {"human": np.ones(n, bool)})
    assert seen.unseen() is None
