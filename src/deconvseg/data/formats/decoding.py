"""Shared code of decoders: errors that name the file, checks of sizes before reading, streams read to the end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.system import available_memory, one_line
from deconvseg.units import format_bytes

# The largest expansion of one compressed byte by deflate and bzip2.
DEFLATE_RATIO, BZIP2_RATIO = 1033, 50_000

CHUNK = 2**20

_MOST_TRAILING_BYTES = 2**26
_SMALL = 2**28  # bytes that are allocated without a check of free memory
_CONVERT = "which is not read whatever its name; convert it to .nii.gz (3D) or .png (2D)"
# The first bytes of other formats that are often found under the name of an image, and the message about each.
_FOREIGN = (
    (rb".{128}DICM", "is DICOM, whatever its name; convert the series with dcm2niix and give the .nii.gz file"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", f"is JPEG 2000, {_CONVERT}"),
    (rb".{4}ftyp(hei|hev|mif|msf)", f"is HEIC, {_CONVERT}"),
    (rb".{4}ftypavi", f"is AVIF, {_CONVERT}"),
    (rb"\x89HDF", f"is HDF5, {_CONVERT}"),
    (rb"\x93NUMPY", f"is a NumPy array, {_CONVERT}"),
    (rb"%PDF", "is a PDF document, and no image; export the image from it"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf", "is an archive; unpack it"),
    (rb"version https://git-lfs", "is a pointer of Git LFS in place of the file; fetch it with 'git lfs pull'"),
    (rb"\s*<(!doctype|!DOCTYPE|html|HTML|\?xml)", "is a web page or XML, and no image; download it again"),
)


@contextmanager
def naming_file(path: Path, kind: str) -> Iterator[None]:
    """Turn exceptions of a decoder into an `InputError` that names ``path`` and the expected ``kind`` of file."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f"{path}: {error}") from error
    except DeconvsegError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory in the size that its header tells ({_reason(error)}); free some memory, "
            f"or copy it again if that is not the size of the {kind}"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:
        # On a damaged header a decoder may raise anything, and so may readers of other packages.
        if (content := foreign_content(path)) is not None:
            raise InputError(f"{path} {content}") from error
        if "requires the 'imagecodecs' package" in str(error):
            raise MissingPackageError(
                f"{path} needs the package imagecodecs ({_reason(error)}); install it with 'pip install imagecodecs'"
            ) from error
        if re.search(r"COMPRESSION.* not supported", str(error)):
            raise InputError(
                f"{path} has a compression that is not read ({_reason(error)}); save it with LZW"
            ) from error
        raise InputError(f"{path} is truncated or not a readable {kind} ({_reason(error)}); copy it again") from error


def foreign_content(path: Path) -> str | None:
    """Describe a file of an unsupported format by its first bytes, as the end of a sentence; None if it is not one."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return None
    return next((sentence for pattern, sentence in _FOREIGN if re.match(pattern, start, re.DOTALL)), None)


def check_described(path: Path, described: int, held: int, ratio: int = 1) -> None:
    """Check the number of bytes that a header describes before memory is allocated for them.

    ``held`` is the number of bytes in the file, compressed by a factor of at most ``ratio``. Raises `OSError` if they
    cannot contain the described bytes, and `InputError` if that much memory is not free.
    """
    if described > held * ratio:
        raise OSError(f"it describes {described} bytes of numbers, more than {held} bytes can hold")
    if described > _SMALL and described > (free := available_memory()):
        raise InputError(
            f"{path} takes {format_bytes(described)} of memory to read, and {format_bytes(free)} are free; free some "
            "memory, or cut it into parts"
        )


def fill(count: int, dtype: np.dtype[Any], chunks: Iterable[bytes], *, exactly: bool) -> npt.NDArray[Any]:
    """Return ``count`` numbers from chunks of bytes; all chunks are read, so that checksums are compared.

    Raises `OSError` if the chunks hold fewer bytes, or too many: any more with ``exactly``, more than 64 MiB
    otherwise.
    """
    numbers = np.empty(count, dtype)
    view = numbers.view(np.uint8).data
    place = behind = 0
    for chunk in chunks:
        part = chunk[: len(view) - place] if place < len(view) else b""
        view[place : place + len(part)] = part
        place += len(part)
        behind += len(chunk) - len(part)
        if behind > (0 if exactly else _MOST_TRAILING_BYTES):
            raise OSError(f"it holds more than the {len(view)} bytes of numbers that its header describes")
    if place < len(view):
        raise OSError(f"it ends after {place} of the {len(view)} bytes of numbers that its header describes")
    return numbers


def read_chunks(stream: Any) -> Iterator[bytes]:
    """Yield the rest of a stream in chunks of 1 MiB."""
    while chunk := stream.read(CHUNK):
        yield chunk


def check_number_type(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise an `InputError` for a type that is not a real number."""
    if dtype.kind == "c":
        raise InputError(f"{path} stores complex numbers, where real ones are expected; write one real image per part")
    if dtype.kind not in "biuf":
        raise InputError(f"{path} stores {dtype}, where real numbers are expected; convert it to one number per voxel")


def _reason(error: Exception) -> str:
    return one_line(error)[:300]
