"""Arrays in files, compressed in blocks: reading a part decompresses only its blocks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deconvseg.errors import DeconvsegError
from deconvseg.system import one_line

# Along each axis.
_BLOCKS_PER_CHUNK = 4
# Exceptions of Blosc2 for frames that are damaged or of another kind.
_DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError),
)


class StoredArray(Protocol):
    """An array in a file: indexing reads and decompresses only the blocks that it needs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""

    @property
    def ndim(self) -> int:
        """The number of its axes."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part; ``[...]`` reads everything."""

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything, as :func:`numpy.asarray` does."""


def compress(array: NDArray[Any], blocks: Sequence[int]) -> bytes:
    """Return the array as a Blosc2 frame in memory, so that writing to a full disk raises the system's error."""
    import blosc2

    chunks = [min(n, _BLOCKS_PER_CHUNK * block) for n, block in zip(array.shape, blocks, strict=True)]
    frame: bytes = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=list(blocks),
        # LZ4 is the fastest to decompress; Zstandard is a tenth smaller but takes three times as long to read.
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1},
    ).to_cframe()
    return frame


def open_stored(path: Path) -> StoredArray:
    """Open a Blosc2 file made by :func:`compress`.

    Raises :class:`DeconvsegError` for a damaged file, here or when a part is read.
    """
    import blosc2

    with _naming(path):
        # One thread: a patch has only a few blocks, and the other cores are needed by the network.
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        if not isinstance(array, blosc2.NDArray):
            raise ValueError("it is not an array")
        return _Frame(path, array, tuple(array.shape), np.dtype(array.dtype))


class _Frame:
    """An open Blosc2 file; errors name the file."""

    def __init__(self, path: Path, frame: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.frame, self.shape, self.dtype = path, frame, shape, dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with _naming(self.path):
            part: NDArray[Any] = self.frame[index]
        return part

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise DeconvsegError(
            f"{path}: the prepared case is damaged ({one_line(error):.200}); remove {path.parent} and start again with "
            "`resume=True`"
        ) from error


def to_npy(array: NDArray[Any]) -> bytes:
    """Return the array as the content of an ``.npy`` file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
