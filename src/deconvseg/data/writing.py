"""Label maps to files, atomically: a file is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from deconvseg.data.formats.metaimage import METAIMAGE_SUFFIXES, save_metaimage
from deconvseg.data.formats.nifti import NIFTI_SUFFIXES, save_nifti
from deconvseg.data.formats.nrrd import NRRD_SUFFIXES, save_nrrd
from deconvseg.data.formats.raster import save_raster
from deconvseg.data.reading import IMAGE_SUFFIXES, image_suffix
from deconvseg.data.types import LabelMap, smallest_integer_dtype
from deconvseg.errors import InputError
from deconvseg.system import atomic_write


def write_label_map(label_map: LabelMap, path: str | PathLike[str], *, like: Path | None = None) -> None:
    """Write a mask by the suffix of ``path``, in the smallest integer type that holds its values, atomically.

    NIfTI, NRRD and MetaImage keep the affine; where ``like`` is a NIfTI on the same grid its qform and sform, their
    codes and its units are kept too, and where it is a NRRD or a MetaImage the world and the unit of its header. Raises
    `InputError` for values or shapes that the format cannot hold, and for an output whose parent is a file;
    `DeconvsegError` where the disk is full.
    """
    path = Path(path)
    suffix = image_suffix(path)
    pixels = label_map.pixels.astype(smallest_integer_dtype(label_map.pixels))
    if suffix in (".nhdr", ".mhd"):
        raise InputError(f"{path} would be two files, which cannot appear at once; use .nrrd or .mha")
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path} has no suffix that a mask can be written as; use .nii.gz, .nrrd, .mha, .png or .tif")
    if suffix in NIFTI_SUFFIXES and label_map.geometry.spatial_dims != 3:
        raise InputError(f"{path} cannot hold a {label_map.geometry.spatial_dims}D mask; write it as .png or .tif")
    with atomic_write(path) as temporary:
        if suffix in NIFTI_SUFFIXES:
            save_nifti(pixels, label_map.geometry, temporary, like=like)
        elif suffix in NRRD_SUFFIXES:
            save_nrrd(pixels, label_map.geometry, temporary, like=like)
        elif suffix in METAIMAGE_SUFFIXES:
            save_metaimage(pixels, label_map.geometry, temporary, like=like)
        else:
            save_raster(pixels, temporary, name=path)


def mask_suffix(image_path: str | PathLike[str], values: Iterable[int] = ()) -> str:
    """The suffix of a mask of this image that may hold the label ``values``.

    ``.nii.gz`` for NIfTI, ``.nrrd`` for NRRD, ``.mha`` for MetaImage; for other 2D images ``.png``, or ``.tif`` where a
    value is negative or needs more than 16 bits.
    """
    suffix = image_suffix(image_path)
    for suffixes, written in ((NIFTI_SUFFIXES, ".nii.gz"), (NRRD_SUFFIXES, ".nrrd"), (METAIMAGE_SUFFIXES, ".mha")):
        if suffix in suffixes:
            return written
    return ".png" if all(0 <= value < 2**16 for value in values) else ".tif"
