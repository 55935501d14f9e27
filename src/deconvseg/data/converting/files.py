"""Files of a converted dataset that keep their content, and the record of each file that is written."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deconvseg.system import atomic_write, unfinished, writing_error

How = Literal["copied", "linked", "compressed", "written"]
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class WrittenFile:
    """A file, how it was made, and why it was not copied.

    A "copied" or hard-"linked" file has the content of its source; a "compressed" one has it inside its gzip stream.
    A "written" one has the voxels of its source in another file.
    """

    path: Path
    how: How
    reason: str = ""


def is_gzip(path: Path) -> bool:
    """Return whether a file begins as a gzip stream."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def copy_file(source: Path, target: Path, *, link: bool) -> WrittenFile:
    """Copy a file, or with ``link`` make a hard link to it if the file system can, atomically."""
    reason = ""
    if link:
        temporary = unfinished(target.parent)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(os.path.realpath(source), temporary)
        except OSError as error:
            reason = f"no hard link ({error.strerror})"
        else:
            try:
                temporary.replace(target)
            except OSError as error:
                raise writing_error(target, error) from error
            finally:
                # Renaming one link of a file to another does nothing.
                temporary.unlink(missing_ok=True)
            return WrittenFile(target, "linked")
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
    return WrittenFile(target, "copied", reason)


def compress_file(source: Path, target: Path) -> WrittenFile:
    """Write the bytes of a file as a gzip stream, atomically."""
    with (
        atomic_write(target) as temporary,
        source.open("rb") as plain,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as stream,
    ):
        shutil.copyfileobj(plain, stream)
    return WrittenFile(target, "compressed")
