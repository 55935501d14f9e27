"""Read headers, and choose the reader of a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data.file_names import is_dead_link
from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.image_endings import DICOM, UNREAD
from deconvseg.data.formats.reader import Reader
from deconvseg.data.formats.registry import find_format, image_suffix, image_suffixes, is_claimed
from deconvseg.data.types import Header
from deconvseg.errors import InputError


def read_header(path: str | PathLike[str], *, readers: Sequence[Any] | None = None) -> Header:
    """Read the header of an image file, without its voxels. ``readers`` is deprecated, as in `read_image`.

    Example:
        >>> from deconvseg.data import read_header
        >>> header = read_header("scan.nii.gz")
        >>> header.channels, header.shape, header.itemsize
        (1, (20, 24, 12), 4)

    """
    warn_of_readers(readers)
    with asking(Path(path), readers) as reader:
        header = reader.read_header(Path(path))
        if not isinstance(header, Header):
            raise TypeError(f"its reader gives no Header, but {type(header).__name__}")
        return header


@contextmanager
def asking(path: Path, readers: Sequence[Any] | None = None) -> Iterator[Reader]:
    """Yield the reader of a path; exceptions inside the block become an `InputError` that names the file."""
    reader = reader_of(path, readers)
    with naming_file(path, f"{image_suffix(path)} file" if path.is_file() else "image"):
        yield reader


def warn_of_readers(readers: Sequence[Any] | None) -> None:
    """Warn the caller of a public function about the deprecated argument ``readers``."""
    if readers is not None:
        warnings.warn("readers= is deprecated: register them with register_reader", DeprecationWarning, stacklevel=3)


def reader_of(path: Path, readers: Sequence[Any] | None = None) -> Reader:
    """Return the reader of a path; `InputError` for an unsupported format or anything but a file or image folder."""
    known = find_format(path)
    reader = None if known is None else known.reader
    if readers is not None:
        reader = next((given for given in readers if given.accepts(path)), None)
    if reader is None:
        raise InputError(describe_unread(path))
    if is_dead_link(path):
        raise InputError(f"{path} is a link to {path.readlink()}, which does not exist; copy that file too")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir() and not is_claimed(path):
        raise InputError(f"{path} is a folder, where an image file is expected")
    if not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a pipe or a device, where an image file is expected")
    return reader


def choose_image(folder: Path, series: Sequence[str]) -> Path:
    """Return the path of the image in a folder that ``series`` asks for."""
    with asking(folder) as reader:
        return reader.choose(folder, series)


def compression_with_losses(path: Path) -> str:
    """Return the name of a file's compression if it is lossy ("JPEG"), else an empty string."""
    with asking(path) as reader:
        return reader.compression_with_losses(path)


def describe_unread(path: Path) -> str:
    """Return the message about a path that no reader accepts."""
    suffix = path.suffix.lower()
    if suffix in DICOM:
        return f"{path} is DICOM, which is not read; convert the series with dcm2niix and give the .nii.gz file"
    if suffix in UNREAD:
        return f"{path} is a {suffix} file, which is not read; convert it to .nii.gz (3D) or .png (2D)"
    return f"{path} has no known image suffix; known are {', '.join(image_suffixes())}"
