"""Files to images and label maps: which reader takes which file, and what every reader checks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.image_endings import DICOM, UNREAD
from deconvseg.data.formats.itk import ItkReader, voxel_files
from deconvseg.data.formats.metaimage import METAIMAGE_SUFFIXES
from deconvseg.data.formats.nifti import NIFTI_SUFFIXES, NiftiReader
from deconvseg.data.formats.nrrd import NRRD_SUFFIXES
from deconvseg.data.formats.raster import RASTER_SUFFIXES, RasterReader
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header, Image, LabelMap
from deconvseg.errors import InputError
from deconvseg.units import format_bytes

IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *METAIMAGE_SUFFIXES, *RASTER_SUFFIXES)

_LONGEST_FIRST = tuple(sorted(IMAGE_SUFFIXES, key=len, reverse=True))
# What is white in unusual depths; only there the header is asked, which costs another look at the file.
_WHITES = {2**bits - 1 for bits in range(2, 16)} - {255}
_LABEL_NOISE = 1e-4  # what arithmetic leaves of a whole number in float32, and no interpolated mask consists of


class Reader(Protocol):
    """What a file format needs to take part; a floor above may pass readers of more formats (DICOM, for one).

    Every method raises `InputError`, naming the file, for a file that it cannot read.
    """

    def accepts(self, path: Path) -> bool:
        """Whether this reader takes the file, judged by its name alone."""
        ...

    def read_header(self, path: Path) -> Header:
        """What is known of the image before its numbers are read."""
        ...

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, *S) of any number type, and their geometry."""
        ...

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (*S), as numbers of any type, and their geometry."""
        ...


READERS: tuple[Reader, ...] = (NiftiReader(), ItkReader(), RasterReader())


def read_image(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    channels_last: bool = False,
    memory: int | None = None,
    readers: Sequence[Reader] = READERS,
) -> Image:
    """Read one file, or several single-channel files of the same grid as the channels of one image.

    ``channels_last`` allows a 4D file whose last axis is the channels (Medical Segmentation Decathlon), and NRRD and
    MetaImage with several numbers per voxel. ``memory`` is the number of bytes that reading may take.
    Raises `InputError` for a missing, corrupt or unsupported file, NaN or infinite voxels, channels whose
    shapes or geometries (see `Geometry.matches`) differ, and, before any number is read, for too little memory.
    """
    files = [Path(paths)] if isinstance(paths, (str, PathLike)) else [Path(path) for path in paths]
    if not files:
        raise InputError("an image needs at least one file, but none was given")
    if memory is not None:
        _check_memory(files, memory, readers)
    first = _read_channels(files[0], channels_last, readers)
    if len(files) == 1:
        return first
    pixels = np.empty((len(files), *first.shape), np.float32)
    for number, path in enumerate(files):
        channel = _read_channels(path, channels_last, readers) if number else first
        if channel.channels != 1:
            raise InputError(
                f"{path} holds {channel.channels} channels, but {len(files)} files are one channel each; "
                "give one file per channel"
            )
        check_same_grid(first, files[0], channel, path)
        pixels[number] = channel.pixels[0]
        # Before the next file is read, what has been copied goes.
        first = Image(pixels[:1], first.geometry)
        del channel
    return Image(pixels, first.geometry)


def read_label_map(path: str | PathLike[str], *, readers: Sequence[Reader] = READERS) -> LabelMap:
    """Read a mask as integers, with the values of the file (palette masks: the indices; booleans: 0 and 1).

    Raises `InputError` for a missing or corrupt file, values that are not whole numbers, and colour masks
    whose channels differ.
    """
    path = Path(path)
    with np.errstate(over="ignore", invalid="ignore"):
        pixels, geometry = _reader_of(path, readers).read_labels(path)
    if pixels.dtype == np.bool_:
        return LabelMap(pixels.astype(np.uint8), geometry)
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = pixels.astype(np.promote_types(pixels.dtype, np.float32), copy=False)
        whole = np.isfinite(pixels) & (np.abs(pixels) < 2**53)
        whole[whole] = np.abs(pixels[whole] - np.rint(pixels[whole])) <= _LABEL_NOISE
        fractional = pixels[~whole]
        if fractional.size:
            seen = ", ".join(f"{value:.9g}" for value in np.unique(fractional)[:5])
            raise InputError(
                f"{path} is not a label map: {fractional.size} voxels are not whole numbers ({seen}, …); "
                "give a mask with one integer per class"
            )
        pixels = np.rint(pixels).astype(np.int64)
    if pixels.dtype.kind == "u" and pixels.itemsize == 8 and pixels.size and int(pixels.max()) >= 2**63:
        raise InputError(f"{path} is not a label map: it has the value {pixels.max()}, which no label is as large as")
    label_map = LabelMap(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("=")), geometry)
    return replace(label_map, white=read_label_white(path, int(pixels.max(initial=0)), readers=readers))


def read_label_white(path: str | PathLike[str], largest: int, *, readers: Sequence[Reader] = READERS) -> int | None:
    """The ``largest`` label of a mask if its file shows that white, in other than 1, 8 or 16 bits; else None."""
    if largest not in _WHITES or image_suffix(path) not in RASTER_SUFFIXES:
        return None
    return largest if read_header(path, readers=readers).white == largest else None


def read_header(path: str | PathLike[str], *, readers: Sequence[Reader] = READERS) -> Header:
    """What a file says of its image before its numbers are read."""
    path = Path(path)
    return _reader_of(path, readers).read_header(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """A file and those that hold its voxels: what an image changes with."""
    return (path, *voxel_files(path)) if ItkReader().accepts(path) and path.is_file() else (path,)


def check_same_grid(first: Image | LabelMap, first_path: Path, second: Image | LabelMap, second_path: Path) -> None:
    """Raise an `InputError` with both files and both values where shapes or geometries differ."""
    if first.shape != second.shape:
        raise InputError(
            f"{second_path} has the shape {_show(second.shape)}, but {first_path} has {_show(first.shape)}; "
            f"they must lie on the same grid{_turned(first_path, second_path)}"
        )
    if first.geometry.matches(second.geometry):
        return

    def differs(name: str) -> bool:
        ours, theirs = getattr(first.geometry, name), getattr(second.geometry, name)
        return not first.geometry.agrees(ours, theirs, second.geometry)

    name = next((name for name in ("spacing", "origin") if differs(name)), "direction")
    ours, theirs = (np.ravel(getattr(side.geometry, name)) for side in (first, second))
    tolerance = min(first.geometry.tolerance, second.geometry.tolerance)
    raise InputError(
        f"{second_path} has the {name} {_show(theirs)}, but {first_path} has {_show(ours)} (tolerance {tolerance:.2g} "
        "mm); resample one of them or repair its header"
    )


def _turned(*paths: Path) -> str:
    """Say which of two files alone is turned by EXIF."""
    try:
        turned = [path for path in paths if read_header(path).orientation != 1]
    except InputError:
        return ""  # not files, or gone since
    if len(turned) != 1:
        return ""
    return f" ({turned[0]} is turned as its EXIF orientation says: turn the other one too, or save it without EXIF)"


def is_dead_link(path: Path) -> bool:
    """Whether the path is a link to something that is not there."""
    return path.is_symlink() and not path.exists()


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image: a known suffix, not hidden, no AppleDouble ``._`` file."""
    return not path.name.startswith(".") and image_suffix(path) != ""


def image_suffix(path: str | PathLike[str]) -> str:
    """The suffix in lower case, ``.nii.gz`` whole, or an empty string where no reader knows it."""
    name = Path(path).name.lower()
    return next((suffix for suffix in _LONGEST_FIRST if name.endswith(suffix)), "")


def case_stem(path: str | PathLike[str]) -> str:
    """The file's name without its image suffix, composed (NFC): ``case.01.nii.gz`` → ``case.01``.

    macOS decomposes letters with accents in names; an image and its mask from two systems still have one name.
    """
    name = Path(path).name
    return unicodedata.normalize("NFC", name[: len(name) - len(image_suffix(path))])


def _read_channels(path: Path, channels_last: bool, readers: Sequence[Reader]) -> Image:
    # What float32 cannot hold becomes infinite, which is refused below by its count.
    with np.errstate(over="ignore", invalid="ignore"):
        pixels, geometry = _reader_of(path, readers).read_channels(path, channels_last=channels_last)
        image = Image(np.ascontiguousarray(pixels, dtype=np.float32), geometry)
    if not all(np.isfinite(plane).all() for channel in image.pixels for plane in channel):
        nans, infinite = int(np.isnan(image.pixels).sum()), int(np.isinf(image.pixels).sum())
        raise InputError(
            f"{path} has {nans} NaN and {infinite} infinite voxels of {image.pixels.size}; "
            "replace them by finite values"
        )
    return image


def _check_memory(files: Sequence[Path], memory: int, readers: Sequence[Reader]) -> None:
    headers = [read_header(path, readers=readers) for path in files]
    # All channels in float32, and one file's numbers as they are stored, and in float32 if they are to be joined.
    joined = 4 if len(files) > 1 else 0
    needed = sum(4 * header.numbers for header in headers)
    needed += max((header.itemsize + joined) * header.numbers for header in headers)
    if needed > memory:
        shape = " x ".join(map(str, headers[0].shape))
        count = sum(header.channels for header in headers)
        channels = f" and {count} channels" if count > 1 else ""
        raise InputError(
            f"{files[0]}: an image of {shape} voxels{channels} takes {format_bytes(needed)} of memory to read, "
            f"more than the {format_bytes(memory)} that it may take; give more, or cut it into parts"
        )


def _reader_of(path: Path, readers: Sequence[Reader]) -> Reader:
    reader = next((reader for reader in readers if reader.accepts(path)), None)
    if reader is None:
        raise InputError(_describe_unread(path))
    if is_dead_link(path):
        raise InputError(f"{path} is a link to {path.readlink()}, which does not exist; copy that file too")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, where an image file is expected")
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device, where an image file is expected")
    return reader


def _describe_unread(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in DICOM:
        return f"{path} is DICOM, which is not read; convert the series with dcm2niix and give the .nii.gz file"
    if suffix in UNREAD:
        return f"{path} is a {suffix} file, which is not read; convert it to .nii.gz (3D) or .png (2D)"
    return f"{path} has no known image suffix; known are {', '.join(IMAGE_SUFFIXES)}"


def _show(values: Any) -> str:
    return "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"
