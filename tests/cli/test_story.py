"""The demonstration's week of ad clicks: what it says about decisions, people and money."""

import contextlib

import numpy as np
import pytest

from onlineguard.cli import story

CLICKS = 150_000

pytestmark = pytest.mark.slow  # one story is made for all of them, which takes as long as a demonstration


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A story, the path of its report, and what its progress was told by stage: the total, then the clicks so far."""
    stages: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def progress(name, total):
        stages[name] = [total]
        yield stages[name].append

    report = tmp_path_factory.mktemp("story") / "clicks.html"
    return story.tell(CLICKS, 0, report, progress), report, stages


@pytest.fixture(scope="module")
def tale(told) -> story.Story:
    return told[0]


def test_the_same_seed_tells_the_same_story(told, tmp_path):
    again = story.tell(CLICKS, 0, tmp_path / "again.html", lambda *_: contextlib.nullcontext(lambda _: None))
    assert again == told[0]


def test_three_weeks_are_learned_calibrated_and_judged(tale):
    for clicks in (tale.learned, tale.calibrated, tale.total.clicks):
        assert clicks == pytest.approx(CLICKS / 3, rel=0.15)


def test_kinds_and_slices_are_parts_of_the_same_clicks(tale):
    for parts in (tale.kinds, tale.slices):
        for name in ("clicks", "robots", "caught", "accused", "unusual"):
            assert sum(getattr(part, name) for part in parts) == getattr(tale.total, name)
    for group in (tale.total, tale.best_ad, *tale.kinds, *tale.slices):
        assert 0 <= group.caught <= group.robots <= group.clicks
        assert 0 <= group.accused <= group.people


def test_robots_are_caught_many_times_as_often_as_people_are_accused(tale):
    caught, accused = tale.total.caught / tale.total.robots, tale.total.accused / tale.total.people
    assert tale.total.caught > 500
    assert caught > 10 * accused
    assert accused < 0.02


def test_people_and_robots_are_told_apart_by_kind_alone(tale):
    people, *robots = tale.kinds
    assert people.name == "person"
    assert people.robots == people.caught == 0
    assert all(group.robots == group.clicks for group in robots)


def test_slices_come_with_the_most_clicks_first_and_each_with_its_threshold(tale):
    clicks = [group.clicks for group in tale.slices]
    assert clicks == sorted(clicks, reverse=True)
    assert all(group.threshold is not None for group in tale.slices)


def test_an_example_is_robotic_exactly_where_its_score_exceeds_its_threshold(tale):
    assert [example.kind for example in tale.examples] == [group.name for group in tale.kinds]
    for example in tale.examples:
        assert example.robotic == (example.p_robot > example.threshold)
        assert 0.0 < example.p_value <= 1.0
    assert any(example.robotic for example in tale.examples)


def test_the_engine_finds_about_its_share_of_peoples_clicks_unusual_and_more_of_bursts(tale):
    shares = {group.name: group.unusual / group.clicks for group in tale.kinds}
    assert 0.2 * story.UNUSUAL < shares["person"] < 3 * story.UNUSUAL
    assert shares["burst"] > 2 * shares["person"]


def test_the_conclusion_says_what_was_not_billed(tale):
    assert f"{story.PRICE * tale.total.robotic:,.2f} euros" in tale.conclusion
    assert f"{story.PRICE * tale.total.accused:,.2f} were for people." in tale.conclusion
    assert tale.best_ad.name in tale.conclusion


def test_every_stage_is_told_how_far_it_is_up_to_its_end(told):
    _, _, stages = told
    assert list(stages) == ["simulated clicks", "features", "network", "engine"]
    for name, (total, *so_far) in stages.items():
        assert np.all(np.diff(so_far) >= 0)
        assert so_far[-1] == (pytest.approx(total, rel=0.05) if name == "simulated clicks" else total)


def test_the_report_shows_the_slices(told):
    page = told[1].read_text()
    assert "a week of simulated clicks" in page
    assert all(name in page for name in ("desktop", "US", "Seed"))
