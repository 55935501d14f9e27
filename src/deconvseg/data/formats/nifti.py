"""NIfTI files to arrays and back."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.volumeutils import apply_read_scaling

from deconvseg.data.formats.decoding import DEFLATE_RATIO, check_described, check_number_type, fill, naming, read_chunks
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")

_VOXELS_AT_ONCE = 2**21
_PLACEMENT_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the unit's code: unknown, metre, millimetre, micrometre
_UNITS = {1: "metres", 3: "micrometres"}
_USUAL_SPACING = (1e-5, 100.0)  # mm; a unit that leads outside is probably declared wrongly


class NiftiReader:
    """Reads volumes in NIfTI-1 and NIfTI-2, compressed or not, and 4D ones (channels last) where that is asked for.

    A 2D image (X, Y) is a volume of one slice. Lengths are in millimetres, whatever the unit of the header.
    """

    def accepts(self, path: Path) -> bool:
        """Whether the name ends in .nii or .nii.gz."""
        return path.name.lower().endswith(NIFTI_SUFFIXES)

    def read_header(self, path: Path) -> Header:
        """The fourth and later axes are the channels."""
        with naming(path, "NIfTI file"):
            volume = _open(path)
            Geometry(volume.affine)
            return Header(math.prod(volume.shape[3:]), volume.shape[:3], volume.dtype.itemsize, volume.notes)

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, X, Y, Z) with the header's scaling applied, in float32, contiguous."""
        with naming(path, "NIfTI file"):
            volume = _open(path)
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
        with naming(path, "NIfTI file"):
            volume = _open(path)
            if len(volume.shape) != 3:
                raise InputError(
                    f"{path} has {len(volume.shape)} axes {volume.shape}, where a 3D mask is expected; write one label "
                    "map"
                )
            geometry = volume.geometry
            numbers = volume.read()
            return numbers if volume.slope is None else _unscaled_labels(numbers, volume), geometry


@dataclass(frozen=True)
class _Volume:
    """A NIfTI's header, checked: nothing in it leads to an error while its numbers are read.

    ``shape`` has three axes or, with channels, more; ``affine`` is in millimetres; ``placed`` says whether the header
    has a form; ``slope`` is None where the numbers are as they are stored.
    """

    path: Path
    kind: type[Any]
    header: Any
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
        return Geometry(self.affine, placed=self.placed)

    def read(self) -> npt.NDArray[Any]:
        """The stored numbers in this shape. A compressed file is read to its end, where its checksum is."""
        with _decompressed(self.path) as (stream, ratio):
            count = math.prod(self.shape)
            held = self.path.stat().st_size - (self.offset if ratio == 1 else 0)
            check_described(self.path, count * self.dtype.itemsize, held, ratio)
            stream.seek(self.offset)
            numbers = fill(count, self.dtype, read_chunks(stream), exactly=False)
        return numbers.reshape(self.shape, order="F")


def save_nifti(pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write (X, Y, Z) to ``path``, with the forms, codes, units and number of axes of a ``like`` on the same grid."""
    volume = nib.Nifti1Image(pixels, geometry.affine, dtype=pixels.dtype)
    volume.header.set_xyzt_units("mm")
    if like is not None and NiftiReader().accepts(like):
        with naming(like, "NIfTI file"):
            source = _open(like)
        if np.array_equal(source.affine, geometry.affine):
            header = type(source.header)()
            header.set_data_dtype(pixels.dtype)
            if source.header["dim"][0] == 2:
                pixels = pixels.reshape(pixels.shape[:2])
            header.set_data_shape(pixels.shape)
            header["pixdim"][:4] = source.header["pixdim"][:4]
            for field in _PLACEMENT_FIELDS:
                header[field] = source.header[field]
            volume = source.kind(pixels, None, header, dtype=pixels.dtype)
    nib.save(volume, path)


@contextmanager
def _decompressed(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The file's bytes, and how many of them one of the file's may be. Its first bytes say whether it is compressed."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=stream, mode="rb") as plain:
                yield plain, DEFLATE_RATIO  # type: ignore[misc]
        else:
            yield stream, 1


def _open(path: Path) -> _Volume:
    with _decompressed(path) as (stream, _):
        block = stream.read(540)
    if len(block) < 348:
        raise OSError(f"it has {len(block)} bytes, fewer than a header")
    kind, size = _recognise(path, block)
    if len(block) < size:
        raise OSError(f"it has {len(block)} bytes, fewer than a header")
    header = kind.header_class(block[:size], check=False)
    sizes = header["dim"]
    axes = int(sizes[0])
    if not 2 <= axes <= 7:
        raise OSError(f"its header describes {axes} axes")
    stored = tuple(int(size) for size in sizes[1 : axes + 1])
    if min(stored) < 1:
        raise OSError(f"its header describes the shape {stored}")
    shape = _spatial_first(stored)
    dtype = np.dtype(header.get_data_dtype())
    check_number_type(path, dtype) if dtype.kind != "V" else _refuse_colours(path)
    slope, inter = header.get_slope_inter()
    notes: list[str] = []
    affine = _affine(header, stored, notes)
    return _Volume(
        *(path, kind, header, shape, dtype, _offset(header, size)),
        slope=None if slope is None or (slope, inter) == (1, 0) else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=affine,
        placed=bool(header["sform_code"] > 0 or header["qform_code"] > 0),
        notes=tuple(notes),
    )


def _recognise(path: Path, block: bytes) -> tuple[type[Any], int]:
    """The class of nibabel's images and the size of the header that the first bytes are."""
    sizes = (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    if 348 in sizes and block[344:347] == b"n+1":
        return nib.Nifti1Image, 348
    if 540 in sizes and block[4:7] == b"n+2":
        return nib.Nifti2Image, 540
    if block[344:347] == b"ni1" or block[4:7] == b"ni2":
        raise InputError(f"{path} is the header of a pair of files; convert them to one .nii file")
    raise OSError("it does not begin with a NIfTI header")


def _refuse_colours(path: Path) -> None:
    raise InputError(f"{path} stores colours, where real numbers are expected; convert it to one number per voxel")


def _spatial_first(stored: tuple[int, ...]) -> tuple[int, ...]:
    """Three spatial axes, then that of the channels: the fourth, or the fifth of a vector image with one moment."""
    shape = (*stored, 1, 1)[: max(3, len(stored))]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return (*shape[:3], *shape[4:]) if len(shape) == 5 and shape[3] == 1 else shape


def _offset(header: Any, size: int) -> int:
    value = float(header["vox_offset"])
    if value == 0:
        return size + 4
    if not (math.isfinite(value) and size <= value < 2**40):
        raise OSError(f"its numbers are said to begin at byte {value:g}")
    return int(value)


def _affine(header: Any, stored: tuple[int, ...], notes: list[str]) -> npt.NDArray[np.float64]:
    """The affine in millimetres: the sform, else the qform, else the spacing alone."""
    header = header.copy()
    lengths = header["pixdim"][1:4]
    used = lengths[: min(len(stored), 3)]
    lacking = header["sform_code"] <= 0
    if lacking and not np.isfinite(used).all():
        raise OSError(f"its voxel sizes are {tuple(map(float, used))}")
    if lacking and (used <= 0).any():
        sizes = ", ".join(f"{length:g}" for length in used)
        notes.append(f"its header gives voxel sizes of ({sizes}): 0 is taken for 1, and the sign is dropped; repair it")
    header["pixdim"][1:4] = np.where((lengths == 0) | ~np.isfinite(lengths), 1, np.abs(lengths))
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    code = int(header["xyzt_units"]) & 7
    scale = _MILLIMETRES.get(code, 1.0)
    affine = np.array(header.get_best_affine(), np.float64)
    if scale != 1.0:
        # Through the shortest decimal number: 0.001 m in float32 is 1 mm, not 1.0000000475.
        affine[:3] = scale * np.vectorize(lambda number: float(str(np.float32(number))))(affine[:3])
    if not np.isfinite(affine).all() or np.abs(affine).max() > 1e12:
        return affine  # Geometry refuses it
    if code not in _MILLIMETRES:
        notes.append(f"its header names no unit of length that exists ({code}): millimetres are assumed")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[: len(used)]
    if code in _UNITS and not ((spacing > _USUAL_SPACING[0]) & (spacing < _USUAL_SPACING[1])).all():
        lengths_text = ", ".join(f"{length:g}" for length in spacing)
        notes.append(
            f"its header is in {_UNITS[code]}, which makes voxels of ({lengths_text}) mm; check its xyzt_units"
        )
    _compare_forms(header, (*stored, 1, 1)[:3], notes)
    return affine


def _compare_forms(header: Any, shape: tuple[int, ...], notes: list[str]) -> None:
    """Note forms that are said to be in one space and place a corner more than half a voxel apart."""
    if header["sform_code"] <= 0 or header["qform_code"] != header["sform_code"]:
        return
    sform, qform = header.get_sform(), header.get_qform()
    corners = np.array(np.meshgrid(*([0, size - 1] for size in shape), [1])).reshape(4, -1)
    apart = np.abs((sform - qform) @ corners).max()
    if not apart <= 0.5 * np.linalg.norm(sform[:3, :3], axis=0).min():
        notes.append("its sform and its qform place it differently in one space; the sform is taken")


def _scaled_channels(volume: _Volume, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
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


def _unscaled_labels(numbers: npt.NDArray[Any], volume: _Volume) -> npt.NDArray[Any]:
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
