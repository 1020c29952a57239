"""What all processes of a deployment share: whoever comes first begins, and all have the same models."""

import pytest
from onlineguard_service.entries import Options
from onlineguard_service.models import Models
from onlineguard_service.shards.beginning import SharedModels, begun

from onlineguard.errors import CheckpointError
from onlineguard.slidr.registry.stores import opened


def test_the_first_process_begins_and_the_others_find_the_same(tmp_path, model_folder, other_folder):
    store, models = opened(tmp_path / "store"), Models(tmp_path / "models")
    first, second = models.put(model_folder), models.put(other_folder)
    assert begun(store, Options(), 4, None) is None
    one = begun(store, Options(), 4, first)
    assert begun(store, Options(target_rate=0.05), 4, second) == one  # what may change is said in the log instead
    assert one.version == first.version


def test_a_deployment_keeps_its_shape(tmp_path, model_folder):
    store, first = opened(tmp_path / "store"), Models(tmp_path / "models").put(model_folder)
    begun(store, Options(), 4, first)
    with pytest.raises(CheckpointError, match="has 5 partitions, and was begun with 4"):
        begun(store, Options(), 5, first)
    with pytest.raises(
        CheckpointError, match=r"this start has detector = point; .* another --snapshots folder and another group="
    ):
        begun(store, Options(detector="point"), 4, first)


def test_a_process_that_never_had_a_model_finds_it_beside_the_snapshots(tmp_path, model_folder):
    store = opened(tmp_path / "store")
    had, without = Models(tmp_path / "had"), Models(tmp_path / "without")
    model = had.put(model_folder)
    theirs = SharedModels(store, without, tmp_path / "without")
    with pytest.raises(CheckpointError, match="neither with the snapshots nor in a registry"):
        theirs.get(model.version)
    SharedModels(store, had, tmp_path / "had").put(model)
    assert theirs.get(model.version).version == model.version
    assert (tmp_path / "without" / model.version).is_dir()
