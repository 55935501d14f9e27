"""Volumes with a binary header (NIfTI, Analyze, MGH): from where the header says the numbers lie to arrays."""

from __future__ import annotations

import gzip
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt
from nibabel.volumeutils import apply_read_scaling

from deconvseg.data.formats.decoding import DEFLATE_RATIO, check_described, fill, naming_file, read_chunks
from deconvseg.data.formats.reader import Reader
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

_VOXELS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Volume:
    """What a header says, checked: nothing in it leads to an error while the numbers are read.

    ``path`` is the file that errors name and ``voxels`` the one that holds the numbers, from byte ``offset`` on.
    ``shape`` has three axes or, with channels, more; ``affine`` is in millimetres; ``placed`` says whether the header
    gives a place and an orientation; ``slope`` is None where the numbers are as they are stored.
    """

    path: Path
    voxels: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float | None
    inter: float
    affine: npt.NDArray[np.float64]
    placed: bool
    notes: tuple[str, ...]

    @property
    def geometry(self) -> Geometry:
        """The grid of the voxels."""
        return Geometry(self.affine, placed=self.placed)

    def read(self) -> npt.NDArray[Any]:
        """The stored numbers in this shape. A compressed file is read to its end, where its checksum is."""
        with decompressed(self.voxels) as (stream, ratio):
            count = math.prod(self.shape)
            held = self.voxels.stat().st_size - (self.offset if ratio == 1 else 0)
            check_described(self.path, count * self.dtype.itemsize, held, ratio)
            stream.seek(self.offset)
            numbers = fill(count, self.dtype, read_chunks(stream), exactly=False)
        return numbers.reshape(self.shape, order="F")


class VolumeReader(Reader):
    """Reads 3D volumes, and 4D ones (channels last) where that is asked for, from what `open` says of a file."""

    kind: ClassVar[str]

    @abstractmethod
    def open(self, path: Path) -> Volume:
        """The header of a file. What is wrong with it may be any exception of a decoder (`naming_file`)."""

    def read_header(self, path: Path) -> Header:
        """The fourth and later axes are the channels."""
        with naming_file(path, self.kind):
            volume = self.open(path)
            Geometry(volume.affine)
            return Header(math.prod(volume.shape[3:]), volume.shape[:3], volume.dtype.itemsize, volume.notes)

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, X, Y, Z) with the header's scaling applied, in float32, contiguous."""
        with naming_file(path, self.kind):
            volume = self.open(path)
            shape = volume.shape
            if len(shape) == 4 and not channels_last:
                raise InputError(
                    f"{path} is 4D {shape}, where 3D is expected; write one 3D file per channel "
                    '(CASE_0000.nii.gz, CASE_0001.nii.gz, …), or declare the channels as "modality" in a '
                    "Medical Segmentation Decathlon dataset.json"
                )
            if len(shape) not in (3, 4):
                raise InputError(f"{path} has {len(shape)} axes {shape}, where a 3D volume is expected")
            geometry = volume.geometry
            return _scaled_channels(volume, shape), geometry

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (X, Y, Z), as stored; where the header scales them, the whole numbers that were meant."""
        with naming_file(path, self.kind):
            volume = self.open(path)
            if len(volume.shape) != 3:
                raise InputError(
                    f"{path} has {len(volume.shape)} axes {volume.shape}, where a 3D mask is expected; write one label "
                    "map"
                )
            geometry = volume.geometry
            numbers = volume.read()
            return numbers if volume.slope is None else _unscaled_labels(numbers, volume), geometry


@contextmanager
def decompressed(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The file's bytes, and how many of them one of the file's may be. Its first bytes say whether it is compressed."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=stream, mode="rb") as plain:
                yield plain, DEFLATE_RATIO  # type: ignore[misc]
        else:
            yield stream, 1


def _scaled_channels(volume: Volume, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The numbers of a file as (C, X, Y, Z), which are those of nibabel's ``get_fdata``.

    In memory are these and the stored ones: they are scaled, which is done in float64, a few planes at a time.
    """
    with_channels: tuple[int, ...] = (*shape, 1)[:4]
    numbers = volume.read().reshape(with_channels)
    check_described(volume.path, 4 * numbers.size, 4 * numbers.size)
    pixels = np.empty((with_channels[3], *shape[:3]), np.float32)
    slope, inter = np.float64(1 if volume.slope is None else volume.slope), np.float64(volume.inter)
    planes = max(1, _VOXELS_AT_ONCE // max(1, shape[0] * shape[1]))
    for channel, plane in enumerate(pixels):
        for start in range(0, shape[2], planes):
            part = slice(start, start + planes)
            plane[:, :, part] = apply_read_scaling(numbers[:, :, part, channel], slope, inter)
    return pixels


def _unscaled_labels(numbers: npt.NDArray[Any], volume: Volume) -> npt.NDArray[Any]:
    """The labels that a scaled integer file stands for, or its scaled numbers where they are no labels.

    A writer that scales rounds label / slope to the nearest number that it can store. So every number of a label
    map is the one that its nearest label is stored as.
    """
    assert volume.slope is not None
    slope, inter = np.float64(volume.slope), np.float64(volume.inter)
    scaled: npt.NDArray[np.float64] = numbers * slope + inter
    if numbers.dtype.kind == "f" or not slope or not np.isfinite(scaled).all():
        return scaled
    labels = np.rint(scaled)
    if (np.abs(np.rint((labels - inter) / slope) - numbers) > 0).any() or np.abs(labels).max() >= 2**53:
        return scaled
    return labels.astype(np.int64)
