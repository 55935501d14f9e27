"""Write label maps and probabilities atomically: a file is complete or absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.nifti import SHARE_STEPS, save_nifti_shares
from deconvseg.data.formats.raster import save_raster
from deconvseg.data.formats.reader import Segment
from deconvseg.data.formats.registry import find_format
from deconvseg.data.geometry import Geometry
from deconvseg.data.headers import describe_unread
from deconvseg.data.types import LabelMap, smallest_integer_dtype
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import atomic_write


def write_label_map(
    label_map: LabelMap, path: str | PathLike[str], *, like: Path | None = None, segments: Sequence[Segment] = ()
) -> None:
    """Write a mask in the format of the suffix of ``path`` and the smallest integer type for its values, atomically.

    NIfTI, NRRD and MetaImage store the affine. If ``like`` is a NIfTI on the same grid, its qform and sform, their
    codes and its units are kept too; if it is a NRRD or MetaImage, the space and unit of its header. NRRD also stores
    the names and colours of ``segments``, and PNG the colours, as its palette. Raises `InputError` for values or shapes
    that the format cannot store, for a read-only format, and for an output whose parent is a file; `DeconvsegError` if
    the disk is full.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import LabelMap, read_image, read_label_map, write_label_map
        >>> image = read_image("scan.nii.gz")
        >>> bright = LabelMap((image.pixels[0] > 5).astype(np.uint8), image.geometry)
        >>> write_label_map(bright, "bright.nii.gz")
        >>> read_label_map("bright.nii.gz").geometry.matches(image.geometry)
        True

    """
    path = Path(path)
    pixels = label_map.pixels.astype(smallest_integer_dtype(label_map.pixels))
    known = find_format(path)
    if known is None:
        raise InputError(f"{path} has no suffix that a mask can be written as; use .nii.gz, .nrrd, .mha, .png or .tif")
    with atomic_write(path) as temporary:
        try:
            write = partial(known.reader.write_segments, segments=segments) if segments else known.reader.write_labels
            write(pixels, label_map.geometry, temporary, name=path, like=like)
        except (DeconvsegError, OSError, MemoryError):
            raise
        except Exception as error:
            # From a reader of another package: a mask that it cannot write must not stop the other masks.
            raise InputError(
                f"{path} cannot be written ({type(error).__name__}: {error}); choose another format"
            ) from error


def write_shares(
    shares: npt.NDArray[np.float32], geometry: Geometry, path: str | PathLike[str], *, like: Path | None = None
) -> None:
    """Write shares between 0 and 1, as probabilities, in 65,536 steps, atomically: NIfTI (K, X, Y, Z) or PNG (H, W).

    In a NIfTI (.nii.gz) the K maps are the fourth axis, and the header's slope makes shares of the numbers; its place
    is as `write_label_map` takes it. A PNG is grey, of 16 bits: 65535 is 1. Shares are read plane by plane, and may lie
    on a disk. Raises `InputError` for an output whose parent is a file; `DeconvsegError` where the disk is full.

    Example:
        >>> import nibabel
        >>> import numpy
        >>> from deconvseg.data import Geometry, write_shares
        >>> write_shares(numpy.full((2, 4, 5, 6), 0.5, numpy.float32), Geometry(numpy.eye(4)), "p.nii.gz")
        >>> nibabel.load("p.nii.gz").get_fdata().shape
        (4, 5, 6, 2)

    """
    path = Path(path)
    with atomic_write(path) as temporary:
        if shares.ndim == 2:
            save_raster(np.rint(shares * SHARE_STEPS).astype(np.uint16), temporary, name=path)
        else:
            save_nifti_shares(shares, geometry, temporary, like=like)


def mask_suffix(image_path: str | PathLike[str], values: Iterable[int] = ()) -> str:
    """Return the suffix of a mask of this image that can store the label ``values``.

    ``.nii.gz`` for NIfTI and other volumes, ``.nrrd`` for NRRD, ``.mha`` for MetaImage; for other 2D images ``.png``,
    or ``.tif`` if a value is negative or needs more than 16 bits. Raises `InputError` for an unsupported format.

    Example:
        >>> from deconvseg.data import mask_suffix
        >>> mask_suffix("scan.mhd"), mask_suffix("photograph.jpg"), mask_suffix("photograph.jpg", [0, 100_000])
        ('.mha', '.png', '.tif')

    """
    known = find_format(image_path)
    if known is None:
        raise InputError(describe_unread(Path(image_path)))
    with naming_file(Path(image_path), "image"):
        return known.reader.mask_suffix(values)
