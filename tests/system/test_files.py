"""Files appear whole or not at all, and are on the disk before they appear."""

import errno
import os
import stat
from pathlib import Path

import pytest

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import atomic_write, make_folder, remove_unfinished, unfinished, write_text


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "check the folder's permissions"),
        (errno.EROFS, "check the folder's permissions"),
        (errno.EIO, "check the disk"),
    ],
)
def test_any_other_refusal_of_the_system_names_the_file_and_what_to_check(tmp_path, number, advice):
    reason = os.strerror(number)
    with (
        pytest.raises(DeconvsegError, match=rf"cannot write .*out\.txt: {reason}; {advice}"),
        atomic_write(tmp_path / "out.txt"),
    ):
        raise OSError(number, reason)


def test_a_name_that_is_too_long_asks_for_a_shorter_one(tmp_path):
    with pytest.raises(InputError, match=r"File name too long; choose a shorter output"):
        make_folder(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"choose a shorter output"), atomic_write(tmp_path / ("x" * 300)) as path:
        path.write_text("content")
    assert not list(tmp_path.iterdir())


def test_an_atomic_write_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "weights.safetensors"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".safetensors")
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"

    def interrupted():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.faults
def test_a_folder_is_made_with_its_parents_or_refused_like_a_file(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == make_folder(str(folder)) == folder
    assert folder.is_dir()
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file", tmp_path / "file" / "deeper" / "still"):
        with pytest.raises(InputError, match=rf"cannot write {target}: {tmp_path / 'file'} is a file") as failure:
            make_folder(target)
        assert failure.value.exit_code == 2
    for number, message in ((errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")):

        def refuse(*args, number=number, **kwargs):
            raise OSError(number, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(DeconvsegError, match=message) as failure:
            make_folder(tmp_path / "new")
        assert failure.value.exit_code == 1


def test_file_and_folder_are_flushed_before_and_after_the_move(tmp_path, monkeypatch):
    calls = []
    flush, replace = os.fsync, Path.replace

    def flushed(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def moved(self, target):
        calls.append("move")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", moved)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("content")
    assert calls == ["file", "move", "folder"]


@pytest.mark.faults
def test_a_disk_that_turns_out_to_be_full_at_the_flush_is_told(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def write():
        with atomic_write(tmp_path / "mask.nii.gz") as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text("content")

    with pytest.raises(DeconvsegError, match=r"the disk is full while writing .*mask\.nii\.gz"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    with atomic_write(tmp_path / "kept.txt") as temporary:
        temporary.write_text("kept")
        half = temporary.name
    (tmp_path / half).write_text("half")
    folder = unfinished(tmp_path)
    folder.mkdir()
    (folder / "a").write_text("half")
    (tmp_path / ".unfinished-thesis.txt").write_text("somebody's")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-thesis.txt", "kept.txt"]


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "text.txt", "µm\n")
    assert (tmp_path / "new" / "text.txt").read_bytes() == b"\xc2\xb5m" + os.linesep.encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "new" / "text.txt", "\ud800")
    assert (tmp_path / "new" / "text.txt").read_text(encoding="utf-8") == "µm\n"
    assert len(list((tmp_path / "new").iterdir())) == 1
