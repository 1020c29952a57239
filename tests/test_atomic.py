"""A file or a folder is replaced whole, or stays as it was."""

import errno
import os
import threading
from pathlib import Path

import pytest

from onlineguard import Engine, atomic


def refusing(monkeypatch: pytest.MonkeyPatch, name: str, error: OSError, *, folders: bool) -> list[Path]:
    """Have `os.open` or `os.fsync` refuse folders, or files; gives the paths that were refused."""
    real, refused = getattr(os, name), []

    def fake(target, *rest, **named):
        path = Path(os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target)
        if path.is_dir() == folders:
            refused.append(path)
            raise error
        return real(target, *rest, **named)

    monkeypatch.setattr(os, name, fake)
    return refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_by_what_was_written(tmp_path):
    atomic.write(tmp_path / "state", b"old")
    atomic.write(str(tmp_path / "state"), b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert names(tmp_path) == ["state"]


def test_a_block_that_raises_leaves_the_old_file_and_no_rest(tmp_path):
    atomic.write(tmp_path / "state", b"old")
    begun: list[Path] = []

    def interrupted() -> None:
        with atomic.replacing(tmp_path / "state") as temporary:
            temporary.write_bytes(b"ne")
            begun.append(temporary)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.parent for path in begun] == [tmp_path]
    assert (tmp_path / "state").read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_a_folder_appears_with_all_its_files_or_not_at_all(tmp_path):
    def broken() -> None:
        with atomic.replacing(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "weights").write_bytes(b"1")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        broken()
    assert names(tmp_path) == []
    with atomic.replacing(tmp_path / "model") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "weights").write_bytes(b"12")
        assert names(tmp_path) == [temporary.name]
    assert (tmp_path / "model" / "deep" / "weights").read_bytes() == b"12"
    assert names(tmp_path) == ["model"]


def test_every_file_of_a_folder_is_synced_before_the_rename_and_the_folder_around_it_after(tmp_path, monkeypatch):
    done: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_sync(descriptor)

    def replace(source, target):
        done.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic.replacing(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "a").write_bytes(b"")
        (temporary / "b").write_bytes(b"")
    assert sorted(done[:2]) == ["a", "b"]
    assert done[2:] == [temporary.name, "rename", tmp_path.name]


def test_a_disk_that_refuses_a_file_leaves_the_old_one(tmp_path, monkeypatch):
    atomic.write(tmp_path / "state", b"old")
    refusing(monkeypatch, "fsync", OSError(errno.ENOSPC, "full"), folders=False)
    with pytest.raises(OSError, match="full"):
        atomic.write(tmp_path / "state", b"new")
    monkeypatch.undo()
    assert (tmp_path / "state").read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("open", PermissionError(errno.EACCES, "Windows opens no folder")), ("fsync", OSError(errno.EINVAL, "no sync"))],
)
def test_a_system_that_cannot_sync_a_folder_still_saves(tmp_path, monkeypatch, name, error):
    refused = refusing(monkeypatch, name, error, folders=True)
    Engine(2).save(tmp_path / "engine")
    assert refused == [tmp_path]
    monkeypatch.undo()
    assert Engine.load(tmp_path / "engine").n_events == 0
    assert names(tmp_path) == ["engine"]


def test_a_disk_that_fails_to_sync_the_folder_is_reported(tmp_path, monkeypatch):
    refusing(monkeypatch, "fsync", OSError(errno.EIO, "Input/output error"), folders=True)
    with pytest.raises(OSError, match="Input/output"):
        atomic.write(tmp_path / "state", b"new")


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    with atomic.replacing(tmp_path / "state") as temporary:
        temporary.write_bytes(b"1")
    temporary.mkdir()
    (temporary / "part").write_bytes(b"2")
    with atomic.replacing(tmp_path / "state") as again:
        assert again == temporary
        assert not again.exists()
        again.write_bytes(b"3")
    assert (tmp_path / "state").read_bytes() == b"3"


def test_threads_that_write_one_file_at_once_leave_one_of_theirs_whole(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    errors: list[BaseException] = []

    def writing(mine: bytes) -> None:
        try:
            for _ in range(20):
                atomic.write(tmp_path / "state", mine)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=writing, args=(mine,)) for mine in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "state").read_bytes() in contents
    assert names(tmp_path) == ["state"]
