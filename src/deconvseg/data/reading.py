"""Read images and label maps, with the checks that apply to every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.aligning import resample_onto, same_grid
from deconvseg.data.formats.decoding import check_number_type, naming_file
from deconvseg.data.formats.registry import is_picture
from deconvseg.data.geometry import Geometry
from deconvseg.data.grids import check_same_grid
from deconvseg.data.headers import asking, read_header, warn_of_readers
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError
from deconvseg.units import format_bytes

# White values of unusual bit depths; only for these is the header read, which opens the file once more.
_WHITES = {2**bits - 1 for bits in range(2, 16)} - {255}
_LABEL_NOISE = 1e-4  # allows rounding of whole numbers in float32, but not interpolated masks
_COVERED = 0.995  # the share of a grid that counts as all of it


def read_image(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    channels_last: bool = False,
    memory: int | None = None,
    align: Callable[[str], None] | None = None,
    readers: Sequence[Any] | None = None,
) -> Image:
    """Read one file, or several single-channel files of the same grid as the channels of one image.

    ``channels_last`` allows a 4D file whose last axis is the channels (Medical Segmentation Decathlon), and NRRD and
    MetaImage files with several numbers per voxel. ``memory`` is the largest number of bytes that reading may need.
    With ``align`` channels on another grid are resampled onto that of the first, which ``align`` is told in a sentence.
    Raises `InputError` for a missing, corrupt or unsupported file, NaN or infinite voxels, channels whose shapes or
    geometries (see `Geometry.matches`) differ, and for too little memory (checked before reading voxels). ``readers``
    is deprecated: use `register_reader`.

    Example:
        >>> from deconvseg.data import read_image
        >>> image = read_image("scan.nii.gz")
        >>> image.pixels.shape, image.pixels.dtype.name, image.geometry.spacing
        ((1, 20, 24, 12), 'float32', (1.0, 1.0, 2.0))

    """
    warn_of_readers(readers)
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
        if align is not None and not same_grid(first, channel):
            channel = _aligned(channel, path, first, files[0], align)
        check_same_grid(first, files[0], channel, path)
        pixels[number] = channel.pixels[0]
        # Free the copied array before the next file is read.
        first = Image(pixels[:1], first.geometry)
        del channel
    return Image(pixels, first.geometry)


def read_label_map(path: str | PathLike[str], *, readers: Sequence[Any] | None = None) -> LabelMap:
    """Read a mask as integers, with the values of the file (palette masks: the indices; booleans: 0 and 1).

    Raises `InputError` for a missing or corrupt file, values that are not whole numbers, and colour masks
    whose channels differ.

    Example:
        >>> from deconvseg.data import count_values, read_label_map
        >>> mask = read_label_map("truth.nii.gz")
        >>> list(count_values(mask.pixels))
        [0, 3, 7]

    """
    warn_of_readers(readers)
    path = Path(path)
    with np.errstate(over="ignore", invalid="ignore"), asking(path, readers) as reader:
        return _as_labels(path, *reader.read_labels(path))


def _as_labels(path: Path, pixels: npt.NDArray[Any], geometry: Geometry) -> LabelMap:
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
    return replace(label_map, white=read_label_white(path, int(pixels.max(initial=0))))


def read_label_white(path: str | PathLike[str], largest: int) -> int | None:
    """Return the ``largest`` label if it is white in a file with a depth other than 1, 8 or 16 bits; else None."""
    if largest not in _WHITES or not is_picture(path):
        return None
    return largest if read_header(path).white == largest else None


def _read_channels(path: Path, channels_last: bool, readers: Sequence[Any] | None) -> Image:
    # Values beyond float32 become infinite, which is counted and refused below.
    with np.errstate(over="ignore", invalid="ignore"), asking(path, readers) as reader:
        pixels, geometry = reader.read_channels(path, channels_last=channels_last)
        check_number_type(path, pixels.dtype)
        if not pixels.size:
            raise InputError(f"{path} holds no voxels: its shape is {pixels.shape}")
        image = Image(np.ascontiguousarray(pixels, dtype=np.float32), geometry)
    if not all(np.isfinite(plane).all() for channel in image.pixels for plane in channel):
        nans, infinite = int(np.isnan(image.pixels).sum()), int(np.isinf(image.pixels).sum())
        raise InputError(
            f"{path} has {nans} NaN and {infinite} infinite voxels of {image.pixels.size}; "
            "replace them by finite values"
        )
    return image


def _aligned(channel: Image, path: Path, first: Image, first_path: Path, tell: Callable[[str], None]) -> Image:
    """Return a channel on the grid of the first one."""
    with naming_file(path, "image"):
        aligned, covered = resample_onto(channel, first.shape, first.geometry)
    share = "" if covered > _COVERED else f", {1 - covered:.0%} of which it does not cover"
    tell(f"{path} has another grid than {first_path}: resampled linearly onto that{share}; were they registered?")
    return aligned


def _check_memory(files: Sequence[Path], memory: int, readers: Sequence[Any] | None) -> None:
    headers = []
    for path in files:
        with asking(path, readers) as reader:
            headers.append(reader.read_header(path))
    # All channels in float32, plus one file as stored, and in float32 if several files are joined.
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
