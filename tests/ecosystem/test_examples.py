"""Programs that users of other libraries write, run as they stand in `examples/`: short, and right."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def ran(name: str) -> dict[str, object]:
    """The names that a program leaves behind."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.slow  # a process of its own would load scikit-learn and JAX again; the others share theirs
def test_a_grid_search_over_a_scikit_learn_pipeline_finds_outliers_while_the_data_drifts():
    found = ran("sklearn_pipeline")
    assert found["search"].best_score_ > 0.99
    X = found["X"]
    assert found["search"].predict([X[-1], X[-1] + [60.0, 0.0]]).tolist() == [1, -1]


def test_a_detector_of_pyod_is_replaced_by_one_line():
    found = ran("pyod_detector")
    clf, X, y = found["clf"], found["X"], found["y"]
    assert clf.predict(X[y]).mean() > 0.9
    assert clf.predict(X[~y]).mean() < 0.1


def test_a_river_pipeline_is_measured_by_scores_and_by_verdicts():
    found = ran("river_pipeline")
    assert found["auc"].get() > 0.99
    assert found["f1"].get() > 0.85
    assert found["model"]["DriftRobustDetector"].target_rate == 0.001


def test_a_river_regression_follows_a_drift_though_a_tenth_of_the_targets_are_false():
    found = ran("river_regression")
    assert found["error"].get() < 1.1 * found["peer_error"].get()


@pytest.mark.parametrize("name", ["sklearn_pipeline", "pyod_detector", "river_pipeline", "river_regression"])
def test_such_a_program_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 36
