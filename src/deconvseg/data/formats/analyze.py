"""Pairs of .hdr and .img files: Analyze 7.5, the variants of SPM, and two-file NIfTI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import check_number_type
from deconvseg.data.formats.nifti import open_nifti, spatial_first
from deconvseg.data.formats.registry import register_reader
from deconvseg.data.formats.volumes import Volume, VolumeReader
from deconvseg.errors import InputError

_HEADER_BYTES = 348
_NIFTI_MAGIC = (b"ni1\0", b"n+1\0")
# Values of the field orient, which few programs write and which they interpret differently.
_ORIENTATIONS = {1: "coronal", 2: "sagittal", 3: "axial, flipped", 4: "coronal, flipped", 5: "sagittal, flipped"}
_SIDES = (
    "is Analyze 7.5, which does not say which side is left: x is taken to run from right to left (LAS), as nibabel and "
    "SPM take it; convert it to NIfTI to be sure"
)


@register_reader("analyze", reads=(".img", ".hdr"))
class AnalyzeReader(VolumeReader):
    """Reads ``CASE.img`` with ``CASE.hdr`` next to it, by either name; listings contain the .img file.

    Two-file NIfTI is read like single-file NIfTI. Analyze 7.5 stores voxel sizes but no orientation: LAS is assumed (x
    from right to left, y to the front, z up) and noted for each header. An origin written by SPM is used, but grids
    are compared only by voxel size. A pair next to a file of the same name in another format counts as a copy of it.
    """

    kind = "Analyze or NIfTI pair"
    copies = True

    def open(self, path: Path) -> Volume:
        """Return the header from the .hdr file; the voxels are in the .img file."""
        voxels, header = _partner(path, ".img"), _partner(path, ".hdr")
        for file in (voxels, header):
            if not file.is_file():
                if (packed := file.with_name(file.name + ".gz")).is_file():
                    raise InputError(f"{path} is one of a pair of files, and {packed.name} is compressed; unpack it")
                raise InputError(f"{path} is one of a pair of files, but {file.name} is not next to it; copy both")
        with header.open("rb") as stream:
            block = stream.read(_HEADER_BYTES)
        if block[344:348] in _NIFTI_MAGIC or block[4:7] in (b"ni2", b"n+2"):
            return open_nifti(path, header, voxels)
        return _open_analyze(path, block, voxels)

    def files(self, path: Path) -> tuple[Path, ...]:
        """Both files."""
        return _partner(path, ".img"), _partner(path, ".hdr")

    def listed_as(self, path: Path) -> Path:
        """Return the .img file if it exists."""
        voxels = _partner(path, ".img")
        return voxels if voxels.is_file() else path


def _partner(path: Path, suffix: str) -> Path:
    """Return the file of the pair with this suffix, in lower or upper case; ``path`` itself if it has the suffix."""
    if path.suffix.lower() == suffix:
        return path
    written = suffix.upper() if path.suffix.isupper() else suffix
    candidates = [path.with_suffix(each) for each in (written, suffix, suffix.upper(), suffix.title())]
    return next((file for file in candidates if file.is_file()), candidates[0])


def _open_analyze(path: Path, block: bytes, voxels: Path) -> Volume:
    sizes = (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    if len(block) < _HEADER_BYTES or _HEADER_BYTES not in sizes:
        raise OSError("its .hdr file does not begin with the header of Analyze or NIfTI")
    header = nib.Spm2AnalyzeHeader(block, check=False)
    axes = int(header["dim"][0])
    stored = tuple(int(size) for size in header["dim"][1 : axes + 1])
    if not 2 <= axes <= 7 or min(stored) < 1:
        raise OSError(f"its header describes {axes} axes {stored}")
    dtype = np.dtype(header.get_data_dtype())
    check_number_type(path, dtype)
    slope, inter = header.get_slope_inter()
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and 0 <= offset < 2**40):
        raise OSError(f"its numbers are said to begin at byte {offset:g}")
    notes = [_SIDES]
    affine = _affine(header, min(axes, 3), notes)
    orientation = header["orient"].tobytes()[:1]
    if (named := _ORIENTATIONS.get(orientation[0] if orientation else 0)) is not None:
        notes.append(f"has the orientation {named!r} in its header, which is not used")
    if voxels.with_suffix(".mat").is_file():
        notes.append(f"has a place and an orientation in {voxels.with_suffix('.mat').name}, which is not read")
    return Volume(
        *(path, voxels, spatial_first(stored), dtype, int(offset)),
        slope=None if slope is None or (slope, inter or 0) == (1, 0) else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=affine,
        placed=False,
        notes=tuple(notes),
    )


def _affine(header: Any, axes: int, notes: list[str]) -> npt.NDArray[np.float64]:
    """Return the same affine as nibabel: voxel sizes, x from right to left, and SPM's origin or the middle."""
    header = header.copy()
    lengths = header["pixdim"][1:4]
    used = lengths[:axes]
    if not np.isfinite(used).all():
        raise OSError(f"its voxel sizes are {tuple(map(float, used))}")
    if (used <= 0).any():
        sizes = ", ".join(f"{length:g}" for length in used)
        notes.append(f"its header gives voxel sizes of ({sizes}): 0 is taken for 1, and the sign is dropped; repair it")
    header["pixdim"][1:4] = np.where((lengths == 0) | ~np.isfinite(lengths), 1, np.abs(lengths))
    header["dim"][1:4] = np.maximum(header["dim"][1:4], 1)
    return np.array(header.get_best_affine(), np.float64)
