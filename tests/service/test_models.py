"""The models that a service keeps: a copy of what a model's folder holds, and nothing else."""

import os
import shutil

import pytest
from onlineguard_service.models import Models

from onlineguard.errors import CheckpointError


def test_a_model_is_kept_under_its_version_and_read_again(tmp_path, model_folder):
    model = Models(tmp_path).put(model_folder)
    assert Models(tmp_path).get(model.version).version == model.version


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path, model_folder):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    os.mkfifo(folder / "more")
    with pytest.raises(CheckpointError, match="more is no plain file"):
        Models(tmp_path / "kept").put(folder)


def test_a_manifest_that_is_nested_without_end_is_refused(tmp_path, model_folder):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "manifest.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(CheckpointError):
        Models(tmp_path / "kept").put(folder)


def test_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path, model_folder, monkeypatch):
    """What a journal names must be there after a power cut."""
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.readlink(f"/proc/self/fd/{file}")), sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(f"named {b}"), replace(a, b))[1])
    kept = tmp_path / "kept" / Models(tmp_path / "kept").put(model_folder).version
    named = done.index(f"named {kept}")
    synced = {path.rpartition("/")[2] for path in done[:named]}
    assert synced > {path.name for path in kept.iterdir()}  # and the folder that holds them
    assert str(tmp_path / "kept") in done[named:]
