"""Arrays as files: compressed in blocks, so that a part costs the blocks that it touches."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deconvseg.errors import DeconvsegError

# Along each axis.
_BLOCKS_PER_CHUNK = 4


class StoredArray(Protocol):
    """An array in a file: an index reads, and decompresses, only the blocks that it touches."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""

    @property
    def ndim(self) -> int:
        """The number of its axes."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part; ``[...]`` reads everything."""


def compress(array: NDArray[Any], blocks: Sequence[int]) -> bytes:
    """Return the array as a Blosc2 frame, in memory: a full disk is then told by the system, as what it is."""
    import blosc2

    chunks = [min(n, _BLOCKS_PER_CHUNK * block) for n, block in zip(array.shape, blocks, strict=True)]
    frame: bytes = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=list(blocks),
        # The fastest to decompress; zstandard is a tenth smaller and takes three times as long to read.
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1},
    ).to_cframe()
    return frame


def open_stored(path: Path) -> StoredArray:
    """Open a Blosc2 file that :func:`compress` made; :class:`DeconvsegError` where it cannot be read."""
    import blosc2

    try:
        # One thread: a patch is a few blocks, and the cores are the network's.
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise DeconvsegError(f"{path}: cannot be read from the cache ({error}); start again with --resume") from error
    if not isinstance(array, blosc2.NDArray):
        raise DeconvsegError(f"{path}: is no array of the cache; start again with --resume")
    stored: StoredArray = array
    return stored


def to_npy(array: NDArray[Any]) -> bytes:
    """Return the array as the content of an ``.npy`` file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
