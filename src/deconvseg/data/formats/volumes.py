"""Read the voxels of volumes with a binary header (NIfTI, Analyze, MGH)."""

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
    """A checked header, which cannot cause an error when the voxels are read.

    Errors name the file ``path``; the file ``voxels`` contains the numbers from byte ``offset`` on. ``shape`` has
    three axes, or more with channels; ``affine`` is in millimetres; ``placed`` is true if the header gives position
    and orientation; ``slope`` is None if stored numbers are not scaled.
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
        """Return the grid of the voxels."""
        return Geometry(self.affine, placed=self.placed)

    def read(self) -> npt.NDArray[Any]:
        """Read the stored numbers in this shape; compressed files to the end, so that the checksum is compared."""
        with decompressed(self.voxels) as (stream, ratio):
            count = math.prod(self.shape)
            held = self.voxels.stat().st_size - (self.offset if ratio == 1 else 0)
            check_described(self.path, count * self.dtype.itemsize, held, ratio)
            stream.seek(self.offset)
            numbers = fill(count, self.dtype, read_chunks(stream), exactly=False)
        return numbers.reshape(self.shape, order="F")


class VolumeReader(Reader):
    """Reads 3D volumes, and with ``channels_last`` 4D volumes, from the header that `open` returns."""

    kind: ClassVar[str]

    @abstractmethod
    def open(self, path: Path) -> Volume:
        """Return the header of a file; it may raise any exception, because callers use `naming_file`."""

    def read_header(self, path: Path) -> Header:
        """Return the header; the fourth and later axes are the channels."""
        with naming_file(path, self.kind):
            volume = self.open(path)
            Geometry(volume.affine)
            return Header(math.prod(volume.shape[3:]), volume.shape[:3], volume.dtype.itemsize, volume.notes)

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Return intensities (C, X, Y, Z), scaled as the header states, in contiguous float32."""
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
        """Return labels (X, Y, Z) as stored; if the header scales them, the whole numbers that they encode."""
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
    """Open a possibly compressed file; yield its stream and the largest expansion of one byte."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=stream, mode="rb") as plain:
                yield plain, DEFLATE_RATIO  # type: ignore[misc]
        else:
            yield stream, 1


def _scaled_channels(volume: Volume, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return the scaled numbers of a file as (C, X, Y, Z), equal to nibabel's ``get_fdata``.

    Scaling is done in float64 for a few planes at a time: memory holds the stored and the scaled numbers, but no
    float64 copy of the volume.
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
    """Return the labels encoded by a scaled integer file, or the scaled numbers if they are not labels.

    A writer that scales rounds label / slope to the nearest number that it can store. So in a label map every stored
    number is the encoding of its nearest label.
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
