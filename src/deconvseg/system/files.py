"""Atomic writes: a file is complete or absent, even after a power failure."""

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

# Prefix of the names of incomplete files and folders.
_UNFINISHED = ".unfinished-"
_UNFINISHED_NAME = re.compile(re.escape(_UNFINISHED) + r"[0-9a-f]{16}(\.\w+)*")


class DiskFullError(DeconvsegError):
    """The disk was full while ``path`` was written; ``advice`` says how to continue once there is space."""

    def __init__(self, path: Path, advice: str = "") -> None:
        super().__init__(f"the disk is full while writing {path}; free some space{advice}")
        self.path, self.advice = path, advice

    def __reduce__(self) -> tuple[type["DiskFullError"], tuple[Path, str]]:
        # Pickle calls the constructor with the message alone; worker processes send this error to their parent.
        return DiskFullError, (self.path, self.advice)


@contextmanager
def atomic_write(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, with the same suffix, and rename it to ``path`` if the block succeeds.

    Missing folders are created. The file is flushed to disk (``fsync``) before it appears, and the folder after that.
    If the block fails, the temporary file is removed and ``path`` is unchanged. An `OSError` becomes a one-line error
    that names ``path``: `InputError` where another path is needed (a file where a folder should be), `DiskFullError` on
    a full disk, `DeconvsegError` otherwise.
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
        # On a failing disk this can fail too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically; errors are those of `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(path: str | PathLike[str]) -> Path:
    """Create a folder and its missing parents, and return its path; errors are those of `atomic_write`."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


def unfinished(folder: Path, suffix: str = "") -> Path:
    """Return a new path in a folder for an incomplete file or folder; `remove_unfinished` recognises the name."""
    return folder / f"{_UNFINISHED}{secrets.token_hex(8)}{suffix}"


def remove_unfinished(folder: Path) -> None:
    """Remove the incomplete files that killed processes left in a folder; no other process may be writing there."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        if not _UNFINISHED_NAME.fullmatch(left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


def current_folder() -> Path:
    """Return the current folder; :class:`InputError` if it was deleted or is not readable."""
    try:
        return Path.cwd()
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used, it may have been deleted ({error.strerror}); change to another one"
        ) from error


def refuse_blocked(path: Path, *, folder: bool = False) -> None:
    """Raise :class:`InputError` if no file (or ``folder``) can be made at ``path`` because of what is already there."""
    if not folder and path.is_dir():
        raise writing_error(path, IsADirectoryError())
    if any(place.is_file() for place in ((path, *path.parents) if folder else path.parents)):
        raise writing_error(path, NotADirectoryError())


def writing_error(path: Path, error: OSError) -> DeconvsegError:
    """Return a one-line error for a failed write to ``path``: an `InputError` if the remedy is another path."""
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
    """Return the suffix that determines a file's encoding; ``.nii.gz`` counts as one suffix."""
    return "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix


def _flush(file: Path) -> None:
    # Windows flushes only files that are open for writing.
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, where the system supports it (Windows does not)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
