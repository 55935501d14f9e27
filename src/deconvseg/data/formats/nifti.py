"""Read and write NIfTI files."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import check_number_type, naming_file
from deconvseg.data.formats.registry import register_reader
from deconvseg.data.formats.volumes import Volume, VolumeReader, decompressed
from deconvseg.data.geometry import Geometry
from deconvseg.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
# Shares between 0 and 1 are written in so many steps.
SHARE_STEPS = 65535

_PLACEMENT_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by unit code: unknown, metre, millimetre, micrometre
_UNITS = {1: "metres", 3: "micrometres"}
_USUAL_SPACING = (1e-5, 100.0)  # mm; a unit that gives a spacing outside this range is probably wrong


@register_reader("nifti", reads=NIFTI_SUFFIXES)
class NiftiReader(VolumeReader):
    """Reads NIfTI-1 and NIfTI-2 volumes, compressed or not, and with ``channels_last`` 4D files.

    A 2D image (X, Y) is read as a volume of one slice. Lengths are converted to millimetres from the unit of the
    header.
    """

    kind = "NIfTI file"

    def open(self, path: Path) -> NiftiVolume:
        """Return the header; the voxels follow it in the same file."""
        return open_nifti(path, path, path)

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels (X, Y, Z) with the affine of ``geometry``, or the header of a NIfTI ``like`` (`save_nifti`)."""
        if geometry.spatial_dims != 3:
            raise InputError(f"{name} cannot hold a {geometry.spatial_dims}D mask; write it as .png or .tif")
        save_nifti(pixels, geometry, path, like=like)


@dataclass(frozen=True)
class NiftiVolume(Volume):
    """A checked NIfTI header, with nibabel's image class and header fields."""

    kind: type[Any]
    header: Any


def save_nifti(pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write (X, Y, Z) to ``path`` with the forms, codes, units and number of axes of a ``like`` on the same grid.

    The mask of an Analyze image has no sform and qform: like its image it has voxel sizes but no orientation.
    """
    nib.save(_volume_like(pixels, geometry, like), path)


def save_nifti_shares(shares: npt.NDArray[np.float32], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write shares (K, X, Y, Z) between 0 and 1 to ``path``, compressed: a volume (X, Y, Z, K) of 16-bit numbers.

    The header's slope gives them back to 1 / 131070; its place is that of `save_nifti`. Planes are written one by one,
    so ``shares`` may be memory-mapped.
    """
    # The shape without its numbers.
    stored = np.broadcast_to(np.uint16(0), (*shares.shape[1:], len(shares)))
    header = _volume_like(stored, geometry, like).header
    header.set_slope_inter(1 / SHARE_STEPS, 0)
    planes = (np.rint(share[:, :, plane] * SHARE_STEPS) for share in shares for plane in range(share.shape[2]))
    _write_numbers(header, planes, path)


def save_nifti_stored(
    numbers: npt.NDArray[Any],
    geometry: Geometry,
    path: Path,
    *,
    like: Path | None,
    slope: float | None = None,
    inter: float = 0.0,
) -> None:
    """Write stored numbers (X, Y, Z) or (X, Y, Z, C) in their type to ``path``, compressed, unscaled.

    Readers multiply them by ``slope`` and add ``inter``. The place of the header is that of `save_nifti`.
    """
    header = _volume_like(np.broadcast_to(numbers.dtype.type(0), numbers.shape), geometry, like).header
    header.set_slope_inter(*((1, 0) if slope is None else (slope, inter)))
    planes = numbers.reshape(numbers.shape[0] * numbers.shape[1], -1, order="F").T
    _write_numbers(header, planes, path)


def _write_numbers(header: Any, parts: Iterable[npt.NDArray[Any]], path: Path) -> None:
    """Write a header and, part by part, its numbers, the first axis fastest."""
    header["vox_offset"] = header.single_vox_offset
    with path.open("wb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as stream:
        stream.write(header.binaryblock)
        stream.write(bytes(header.single_vox_offset - len(header.binaryblock)))
        for part in parts:
            stream.write(part.astype(header.get_data_dtype()).tobytes(order="F"))


def _volume_like(pixels: npt.NDArray[Any], geometry: Geometry, like: Path | None) -> Any:
    """Return an image of nibabel with the header that `save_nifti` describes."""
    volume = nib.Nifti1Image(pixels, geometry.affine, dtype=pixels.dtype)
    volume.header.set_xyzt_units("mm")
    if not geometry.placed and np.allclose(volume.header.get_base_affine(), geometry.affine):
        # A header without sform and qform: nibabel gives it this affine, and like the image it has no orientation.
        volume.header["sform_code"] = volume.header["qform_code"] = 0
    if like is not None and like.name.lower().endswith(NIFTI_SUFFIXES):
        with naming_file(like, "NIfTI file"):
            source = open_nifti(like, like, like)
        if np.array_equal(source.affine, geometry.affine):
            header = type(source.header)()
            header.set_data_dtype(pixels.dtype)
            if source.header["dim"][0] == 2 and pixels.ndim == 3:
                pixels = pixels.reshape(pixels.shape[:2])
            header.set_data_shape(pixels.shape)
            header["pixdim"][:4] = source.header["pixdim"][:4]
            for field in _PLACEMENT_FIELDS:
                header[field] = source.header[field]
            volume = source.kind(pixels, None, header, dtype=pixels.dtype)
    return volume


def open_nifti(path: Path, header_file: Path, voxels: Path) -> NiftiVolume:
    """Return the header in ``header_file``; the numbers are in ``voxels``, the same file or the second of a pair."""
    with decompressed(header_file) as (stream, _):
        block = stream.read(540)
    if len(block) < 348:
        raise OSError(f"it has {len(block)} bytes, fewer than a header")
    kind, size = _recognise(path, block, paired=header_file != voxels)
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
    shape = spatial_first(stored)
    dtype = np.dtype(header.get_data_dtype())
    check_number_type(path, dtype) if dtype.kind != "V" else _refuse_colours(path)
    slope, inter = header.get_slope_inter()
    notes: list[str] = []
    affine = _affine(header, stored, notes)
    return NiftiVolume(
        *(path, voxels, shape, dtype, _offset(header, 0 if header_file != voxels else size)),
        slope=None if slope is None or (slope, inter) == (1, 0) else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=affine,
        placed=bool(header["sform_code"] > 0 or header["qform_code"] > 0),
        notes=tuple(notes),
        kind=kind,
        header=header,
    )


def _recognise(path: Path, block: bytes, *, paired: bool) -> tuple[type[Any], int]:
    """Return nibabel's image class and the size of the header, by the first bytes."""
    sizes = (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    if 348 in sizes and block[344:347] in ((b"ni1", b"n+1") if paired else (b"n+1",)):
        return nib.Nifti1Pair if paired else nib.Nifti1Image, 348
    if 540 in sizes and block[4:7] in ((b"ni2", b"n+2") if paired else (b"n+2",)):
        return nib.Nifti2Pair if paired else nib.Nifti2Image, 540
    if block[344:347] == b"ni1" or block[4:7] == b"ni2":
        raise InputError(f"{path} is the header of a pair of files; give it the suffix .hdr, next to its .img file")
    raise OSError("it does not begin with a NIfTI header")


def _refuse_colours(path: Path) -> None:
    raise InputError(f"{path} stores colours, where real numbers are expected; convert it to one number per voxel")


def spatial_first(stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return three spatial axes, then the channels: the fourth axis, or the fifth of a static vector image."""
    shape = (*stored, 1, 1)[: max(3, len(stored))]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return (*shape[:3], *shape[4:]) if len(shape) == 5 and shape[3] == 1 else shape


def _offset(header: Any, size: int) -> int:
    """Return the offset of the first number: after the header (``size`` bytes) and any extension bytes."""
    value = float(header["vox_offset"])
    if value == 0:
        return size + 4 if size else 0
    if not (math.isfinite(value) and size <= value < 2**40):
        raise OSError(f"its numbers are said to begin at byte {value:g}")
    return int(value)


def _affine(header: Any, stored: tuple[int, ...], notes: list[str]) -> npt.NDArray[np.float64]:
    """Return the affine in millimetres: from the sform, else the qform, else only the spacing."""
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
        # Convert through the shortest decimal: 0.001 m in float32 becomes 1 mm, not 1.0000000475.
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
    """Note an sform and a qform of the same space code that place a corner more than half a voxel apart."""
    if header["sform_code"] <= 0 or header["qform_code"] != header["sform_code"]:
        return
    sform, qform = header.get_sform(), header.get_qform()
    corners = np.array(np.meshgrid(*([0, size - 1] for size in shape), [1])).reshape(4, -1)
    apart = np.abs((sform - qform) @ corners).max()
    if not apart <= 0.5 * np.linalg.norm(sform[:3, :3], axis=0).min():
        notes.append("its sform and its qform place it differently in one space; the sform is taken")
