"""NIfTI files to arrays and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.volumeutils import apply_read_scaling

from deconvseg.data.decoding import naming
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")

_VOXELS_AT_ONCE = 2**21
_PLACEMENT_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


class NiftiReader:
    """Reads 3D NIfTI volumes, and 4D ones whose last axis is the channels where that is asked for."""

    def accepts(self, path: Path) -> bool:
        """Whether the name ends in .nii or .nii.gz."""
        return path.name.lower().endswith(NIFTI_SUFFIXES)

    def read_header(self, path: Path) -> Header:
        """The fourth and later axes are the channels."""
        with naming(path, "NIfTI file"):
            volume = nib.load(path)
            shape = tuple(map(int, volume.shape))
            return Header(math.prod(shape[3:]), shape[:3], volume.get_data_dtype().itemsize)

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, X, Y, Z) with the header's scaling applied, in float32, contiguous."""
        with naming(path, "NIfTI file"):
            volume = nib.load(path)
            _check_number_type(volume, path)
            shape = _without_trailing_ones(volume.shape)
            if len(shape) == 4 and not channels_last:
                raise InputError(
                    f"{path} is 4D {tuple(shape)}, where 3D is expected; write one 3D file per channel "
                    '(CASE_0000.nii.gz, CASE_0001.nii.gz, …), or declare the channels as "modality" in a '
                    "Medical Segmentation Decathlon dataset.json"
                )
            if len(shape) not in (3, 4):
                raise InputError(f"{path} has {len(shape)} axes {tuple(shape)}, where a 3D volume is expected")
            return _scaled_channels(volume.dataobj, shape), Geometry(volume.affine)

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (X, Y, Z), as stored unless the header scales them."""
        with naming(path, "NIfTI file"):
            volume = nib.load(path)
            _check_number_type(volume, path)
            shape = _without_trailing_ones(volume.shape)
            if len(shape) != 3:
                raise InputError(f"{path} has {len(shape)} axes {tuple(shape)}, where a 3D mask is expected")
            return np.asanyarray(volume.dataobj).reshape(shape), Geometry(volume.affine)


def save_nifti(pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write (X, Y, Z) to ``path``, with the forms, codes and units of a ``like`` on the same grid."""
    volume = nib.Nifti1Image(pixels, geometry.affine, dtype=pixels.dtype)
    volume.header.set_xyzt_units("mm")
    if like is not None and NiftiReader().accepts(like):
        with naming(like, "NIfTI file"):
            source = nib.load(like)
        if np.array_equal(source.affine, geometry.affine):
            header = type(source.header)()
            header.set_data_dtype(pixels.dtype)
            header.set_data_shape(pixels.shape)
            header["pixdim"][:4] = source.header["pixdim"][:4]
            for field in _PLACEMENT_FIELDS:
                header[field] = source.header[field]
            volume = type(source)(pixels, None, header, dtype=pixels.dtype)
    nib.save(volume, path)


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the empty time and vector axes removed that some writers add behind a 3D volume."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _scaled_channels(stored: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The numbers of a file as (C, X, Y, Z), which are those of nibabel's ``get_fdata``.

    In memory are these and the stored ones: they are scaled, which is done in float64, a few planes at a time.
    """
    numbers = stored.get_unscaled().reshape((*shape, 1)[:4])
    pixels = np.empty((numbers.shape[3], *shape[:3]), np.float32)
    slope, inter = np.float64(stored.slope), np.float64(stored.inter)
    planes = max(1, _VOXELS_AT_ONCE // max(1, shape[0] * shape[1]))
    for channel, volume in enumerate(pixels):
        for start in range(0, shape[2], planes):
            part = slice(start, start + planes)
            volume[:, :, part] = apply_read_scaling(numbers[:, :, part, channel], slope, inter)
    return pixels


def _check_number_type(volume: Any, path: Path) -> None:
    dtype = volume.get_data_dtype()
    if dtype.kind not in "biuf":
        raise InputError(
            f"{path} stores {'colours' if dtype.kind == 'V' else dtype}, where real numbers are expected; "
            "convert it to one number per voxel"
        )
