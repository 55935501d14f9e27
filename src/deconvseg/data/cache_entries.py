"""Entries of a cache of prepared cases: a folder each, written at once, with checksums of its files."""

import json
import logging
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.json_files import read_json_object
from deconvseg.data.stored_arrays import StoredArray, open_stored
from deconvseg.errors import DeconvsegError
from deconvseg.system import one_line, writing_error

_log = logging.getLogger("deconvseg")

_RECORD = "entry.json"
_FILES = ("image.b2nd", "labels.b2nd", "centres.npy")
_UNFINISHED = ".unfinished-"
# An unfinished entry of this age was left by a process that was killed.
_ABANDONED_SECONDS = 86400


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case in its own folder of a cache.

    ``shape`` is S; ``classes`` has a pair (class id, number of its rows in ``centres``) for each class of the case.
    """

    name: str
    folder: Path
    shape: tuple[int, ...]
    classes: tuple[tuple[int, int], ...]

    @property
    def image(self) -> StoredArray:
        """Pixels (C, *S) float32."""
        return open_stored(self.folder / "image.b2nd")

    @property
    def labels(self) -> StoredArray:
        """Class ids (*S)."""
        return open_stored(self.folder / "labels.b2nd")

    @property
    def centres(self) -> NDArray[np.int32]:
        """Voxel indices (N, D), sampled from each class in the order of ``classes``, memory-mapped read-only."""
        centres: NDArray[np.int32] = np.load(self.folder / "centres.npy", mmap_mode="r", allow_pickle=False)
        return centres


def has_entry(folder: Path) -> bool:
    """Return whether there is an entry, damaged or not."""
    return (folder / _RECORD).is_file()


def write_entry(folder: Path, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Write an entry to a temporary folder and move it into place, unless another process has put one there."""
    unfinished = folder.with_name(_UNFINISHED + token_hex(8))
    try:
        unfinished.mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        checks = {name: [len(content), zlib.crc32(content)] for name, content in files.items()}
        (unfinished / _RECORD).write_text(json.dumps({**record, "files": checks}), encoding="utf-8")
        if folder.exists() and read_entry(folder.name, folder) is None:
            # Move a damaged entry away in one step, so that no process reads half of it.
            folder.rename(unfinished / "damaged")
        if not folder.exists():
            unfinished.rename(folder)
    except OSError as error:
        if not has_entry(folder):
            raise writing_error(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(folder / "damaged", ignore_errors=True)


def read_entry(name: str, folder: Path) -> PreparedCase | None:
    """Return the entry, or None if it does not exist or its files differ from those that were written."""
    if not has_entry(folder):
        return None
    try:
        record = read_json_object(folder / _RECORD)
        for file in _FILES:
            size, check = record["files"][file]
            path = folder / file
            if path.stat().st_size != size or zlib.crc32(path.read_bytes()) != check:
                raise ValueError(f"{file} is not what was written")
        shape, rows = record["shape"], record["classes"]
        if not all(type(n) is int for n in (*shape, *(n for row in rows for n in row))):
            raise ValueError("not whole numbers")
        case = PreparedCase(name, folder, tuple(shape), tuple((label, count) for label, count in rows))
        _check_arrays(case)
    except (DeconvsegError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: the prepared case is damaged and is made again (%.200s)", folder, one_line(error))
        return None
    return case


def _check_arrays(case: PreparedCase) -> None:
    """Raise ``ValueError`` if the record of an entry contradicts its arrays."""
    image, labels, centres = case.image, case.labels, case.centres
    if image.dtype != np.float32 or tuple(image.shape[1:]) != case.shape:
        raise ValueError(f"the image is {image.dtype} {tuple(image.shape)}, not of shape {case.shape}")
    if labels.dtype.kind not in "iu" or tuple(labels.shape) != case.shape:
        raise ValueError(f"the labels are {labels.dtype} {tuple(labels.shape)}, not of shape {case.shape}")
    count = sum(count for _, count in case.classes)
    if (
        centres.dtype != np.int32
        or centres.shape != (count, len(case.shape))
        or min(case.classes, default=(0, 0)) < (0, 0)
    ):
        raise ValueError(f"the centres are {centres.dtype} {centres.shape}, not {count}")
    if len(centres) and not ((centres >= 0) & (centres < np.array(case.shape))).all():
        raise ValueError("centres lie outside the image")


def remove_abandoned(place: Path) -> None:
    """Remove what processes that were killed left unfinished."""
    for unfinished in place.glob(f"{_UNFINISHED}*"):
        try:
            age = time.time() - unfinished.stat().st_mtime
        except FileNotFoundError:  # its process has just finished it
            continue
        if age > _ABANDONED_SECONDS:
            shutil.rmtree(unfinished, ignore_errors=True)
