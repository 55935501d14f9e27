"""Read the voxels of formats with a text header (NRRD, MetaImage)."""

from __future__ import annotations

import bz2
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import (
    BZIP2_RATIO,
    CHUNK,
    DEFLATE_RATIO,
    check_described,
    check_number_type,
    fill,
    read_chunks,
)
from deconvseg.errors import InputError

Encoding = Literal["raw", "gzip", "zlib", "bzip2", "text", "hex"]

_RATIOS: dict[Encoding, int] = {"raw": 1, "text": 4, "hex": 1, "gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO,
                                "bzip2": BZIP2_RATIO}  # fmt: skip
_LONGEST_HEADER = 2**24
_MOST_FILES = 100_000
_MOST_AXES = 16


@dataclass(frozen=True)
class Voxels:
    """How the numbers of a file are stored.

    ``sizes`` are the axis sizes, the fastest axis first; ``components`` is the axis of several numbers per voxel, if
    there is one. ``files`` contain the numbers one after the other, from byte ``start`` of each file (-1: the last
    bytes), after ``line_skip`` lines and, once decompressed, ``byte_skip`` bytes.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: Encoding
    files: tuple[Path, ...]
    start: int = 0
    line_skip: int = 0
    byte_skip: int = 0
    components: int | None = None

    @property
    def domain(self) -> tuple[int, ...]:
        """The sizes of all axes except the components."""
        return tuple(size for axis, size in enumerate(self.sizes) if axis != self.components)

    @property
    def numbers_per_voxel(self) -> int:
        """The number of components of a voxel."""
        return 1 if self.components is None else self.sizes[self.components]

    @property
    def channels(self) -> int:
        """The number of components times the size of a fourth axis."""
        return self.numbers_per_voxel * math.prod(self.domain[3:])

    def read(self) -> npt.NDArray[Any]:
        """Read the numbers (components, *domain); files are read to the end, so that checksums are compared.

        Raises `InputError` for a missing data file, and `OSError` for a damaged one.
        """
        check_number_type(self.path, self.dtype)
        for file in self.files:
            if not file.is_file():
                there = "is a pipe, a device or a folder" if file.exists() else "does not exist"
                raise InputError(f"{self.path} keeps its voxels in {file}, which {there}; copy both files")
        count, held = math.prod(self.sizes), sum(file.stat().st_size for file in self.files)
        described = count * self.dtype.itemsize
        if self.encoding == "raw":
            self._check_plain(described, held)
        check_described(self.path, described, held, _RATIOS[self.encoding])
        with ExitStack() as stack:
            chunks = self._chunks(stack)
            if self.encoding == "text":
                numbers = _parse_numbers(b"".join(chunks), self.dtype, count)
            else:
                numbers = fill(count, self.dtype, chunks, exactly=True)
        array = numbers.reshape(self.sizes, order="F")
        return array[None] if self.components is None else np.moveaxis(array, self.components, 0)

    def _check_plain(self, described: int, held: int) -> None:
        """Refuse uncompressed data larger than the header describes: it belongs to another image."""
        if self.start == -1 or self.line_skip or self.byte_skip:
            return
        found = held - self.start * len(self.files)
        if found > described:
            where = "has" if self.files == (self.path,) else f"but {self.files[0]} has"
            raise InputError(
                f"{self.path} describes {described} bytes of voxels, {where} {found}: it belongs to another image; "
                "copy all its files again"
            )

    def _chunks(self, stack: ExitStack) -> Iterator[bytes]:
        each = math.prod(self.sizes) * self.dtype.itemsize // len(self.files)
        for file in self.files:
            stream = stack.enter_context(file.open("rb"))
            if self.start == -1:
                stream.seek(max(0, file.stat().st_size - each))
            else:
                stream.seek(self.start)
            for _ in range(self.line_skip):
                if not stream.readline(_LONGEST_HEADER):
                    raise OSError(f"it has fewer than {self.line_skip} lines before its voxels")
            yield from _skip(_unpack(stream, self.encoding), self.byte_skip)


def read_header_lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a header without line ends; `OSError` if it exceeds the largest header size."""
    read = 0
    while line := stream.readline(_LONGEST_HEADER - read + 1):
        read += len(line)
        if read > _LONGEST_HEADER:
            raise OSError("its header has no end")
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def data_files(path: Path, named: str, listed: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that a header names: one file, a list after ``LIST``, or the files of a numbered pattern.

    Raises `InputError` for a file outside the header's folder, because a header must not give access to other files.
    """
    words = named.split()
    if not words:
        raise OSError("its header names no data file")
    if words[0] == "LIST":
        names = [line.strip() for line in listed if line.strip()]
    elif re.search(r"%0?\d*d", named) and len(words) in (4, 5):
        names = _expand(words)
    else:
        names = [named]
    if not names or len(names) > _MOST_FILES:
        raise OSError(f"its header names {len(names)} data files")
    return tuple(_inside(path, name) for name in names)


def numbers_of(text: str, count: int | None, what: str) -> tuple[float, ...]:
    """Parse numbers in a header; `OSError` for anything else, or a different count."""
    try:
        numbers = tuple(float(word) for word in text.split())
    except ValueError as error:
        raise OSError(f"its {what} is {text[:60]!r}, where numbers are expected") from error
    if count is not None and len(numbers) != count:
        raise OSError(f"its {what} has {len(numbers)} numbers, where {count} are expected")
    return numbers


def sizes_of(text: str, count: int | None, what: str) -> tuple[int, ...]:
    """Parse at most 16 positive whole numbers in a header; `OSError` for anything else."""
    numbers = numbers_of(text, count, what)
    if not 1 <= len(numbers) <= _MOST_AXES or not all(1 <= number < 2**48 and number % 1 == 0 for number in numbers):
        raise OSError(f"its {what} is {text[:60]!r}, where positive whole numbers are expected")
    return tuple(map(int, numbers))


def _expand(words: Sequence[str]) -> list[str]:
    """Return the file names of a pattern ``name%03d first last step``."""
    pattern, (first, last, step) = words[0], (int(word) for word in words[1:4])
    if pattern.count("%") != 1 or step == 0 or abs(last - first) // abs(step) >= _MOST_FILES:
        raise OSError(f"its header names the data files {' '.join(words)[:60]!r}")
    end = last + (1 if step > 0 else -1)
    width = re.search(r"%(0?\d*)d", pattern)
    assert width is not None
    if len(width[1]) > 3:
        raise OSError(f"its header names the data files {pattern[:60]!r}")
    return [pattern.replace(width[0], f"{number:{width[1]}d}") for number in range(first, end, step)]


def _inside(path: Path, name: str) -> Path:
    """Return the data file of a header, given relative or absolute; it must be in the header's folder or below it."""
    if "\0" in name:
        raise OSError("its header names a data file with a NUL character")
    pure = PurePosixPath(name)
    if pure.is_absolute() and ".." not in pure.parts:
        folders = (path.parent.absolute(), path.parent.resolve())
        pure = next((pure.relative_to(folder) for folder in folders if pure.is_relative_to(folder)), pure)
    if pure.is_absolute() or ".." in pure.parts or PureWindowsPath(name).drive:
        raise InputError(
            f"{path} keeps its voxels in {name}, outside of its own folder, which is not followed; put both into one "
            "folder and name the file alone"
        )
    return path.parent / pure


def _unpack(stream: IO[bytes], encoding: Encoding) -> Iterator[bytes]:
    if encoding == "gzip":
        yield from read_chunks(gzip.GzipFile(fileobj=stream, mode="rb"))
    elif encoding == "bzip2":
        yield from read_chunks(bz2.BZ2File(stream))
    elif encoding == "zlib":
        yield from _inflate(stream)
    elif encoding == "hex":
        yield bytes.fromhex(b"".join(stream.read().split()).decode("ascii"))
    else:
        yield from read_chunks(stream)


def _inflate(stream: IO[bytes]) -> Iterator[bytes]:
    """Decompress a zlib or gzip stream to its end, so that the checksum is compared."""
    unpacking = zlib.decompressobj(47)
    while not unpacking.eof:
        packed = unpacking.unconsumed_tail or stream.read(CHUNK)
        if not packed:
            raise EOFError("its compressed voxels end before their checksum")
        if plain := unpacking.decompress(packed, CHUNK):
            yield plain
    if unpacking.unused_data.strip(b"\0\r\n") or stream.read(1).strip(b"\0\r\n"):
        raise OSError("it goes on behind its compressed voxels")


def _skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[count:]
        count = max(0, count - len(chunk))


def _parse_numbers(text: bytes, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    words = text.replace(b",", b" ").split()
    if len(words) != count:
        raise OSError(f"it holds {len(words)} numbers, where its header describes {count}")
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype)
    return np.array([int(word) for word in words], dtype)
