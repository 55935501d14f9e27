"""Files that are there whole or not at all, also after a power failure."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from deconvseg.errors import DeconvsegError, InputError

# Begins the name of a file or folder that is not complete.
_UNFINISHED = ".unfinished-"
_UNFINISHED_NAME = re.compile(re.escape(_UNFINISHED) + r"[0-9a-f]{16}(\.\w+)*")


class DiskFullError(DeconvsegError):
    """The disk was full while ``path`` was written; ``advice`` says how the work goes on then."""

    def __init__(self, path: Path, advice: str = "") -> None:
        super().__init__(f"the disk is full while writing {path}; free some space{advice}")
        self.path, self.advice = path, advice

    def __reduce__(self) -> tuple[type["DiskFullError"], tuple[Path, str]]:
        # From one process to another.
        return DiskFullError, (self.path, self.advice)


@contextmanager
def atomic_write(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and with its suffix; move it there if the block succeeds.

    Missing folders are made. The content is on the disk (``fsync`` of file and folder) before it appears. When the
    block fails the temporary file is removed and ``path`` is as it was. An `OSError` becomes one line that names
    ``path``: `InputError` where a file stands in the way, `DeconvsegError` where the disk is full or refuses.
    """
    path = Path(path)
    temporary = unfinished(path.parent, _suffix(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise writing_error(path, error) from error
    finally:
        # On a failing disk this fails too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a UTF-8 text that is there whole or not at all; errors are those of `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(path: str | PathLike[str]) -> Path:
    """Make a folder and its parents where they are missing, and return it; errors are those of `atomic_write`."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


def unfinished(folder: Path, suffix: str = "") -> Path:
    """Return a new path in a folder for what is not complete, which `remove_unfinished` finds."""
    return folder / f"{_UNFINISHED}{secrets.token_hex(8)}{suffix}"


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; call it only while no other process writes there."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        if not _UNFINISHED_NAME.fullmatch(left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


def current_folder() -> Path:
    """Return the current folder; :class:`InputError` where it was deleted or may not be read."""
    try:
        return Path.cwd()
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used, it may have been deleted ({error.strerror}); change to another one"
        ) from error


def writing_error(path: Path, error: OSError) -> DeconvsegError:
    """Say in one line why ``path`` could not be written; `InputError` where another path has to be given."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(path)
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        in_the_way = next((place for place in (path, *path.parents) if place.is_file()), path.parent)
        return InputError(f"cannot write {path}: {in_the_way} is a file, not a folder; choose another output")
    if isinstance(error, IsADirectoryError):
        return InputError(f"cannot write {path}: it is a folder; choose another output")
    if error.errno == errno.ENAMETOOLONG:
        return InputError(f"cannot write {path}: {error.strerror}; choose a shorter output, or shorter names of cases")
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    advice = "check the folder's permissions" if refused else "check the disk"
    return DeconvsegError(f"cannot write {path}: {error.strerror or error}; {advice}")


def _suffix(path: Path) -> str:
    """Return the suffix that says how a file is encoded; ``.nii.gz`` is one."""
    return "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix


def _flush(file: Path) -> None:
    # Opened for writing, which Windows needs for a flush.
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system has a call for that (Windows has none)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
