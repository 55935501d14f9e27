"""Arrays on disk, for data that need not be in memory."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deconvseg.errors import DeconvsegError
from deconvseg.system import make_folder, unfinished
from deconvseg.units import format_bytes

Number = TypeVar("Number", np.float32, np.uint8)


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder on the disk of the masks; it is removed when the block ends or fails."""
    folder = make_folder(unfinished(output))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def disk_array(
    file: Path,
    shape: tuple[int, ...],
    dtype: type[Number] = np.float32,  # type: ignore[assignment]
    what: str = "the probabilities",
) -> np.memmap[Any, np.dtype[Number]]:
    """Create a ``.npy`` file and return its memory-mapped array, which need not fit into memory.

    Errors say ``what`` the file holds.
    """
    try:
        array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # On a full disk, writing to a page of a sparse file kills the process.
            with file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    except OSError as error:
        raise DeconvsegError(
            f"cannot write {file}, {what}: {error.strerror or error}; free "
            f"{format_bytes(np.dtype(dtype).itemsize * math.prod(shape))} there and run it again"
        ) from error
    return array
