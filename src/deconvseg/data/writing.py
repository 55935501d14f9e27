"""Label maps to files, atomically: a file is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.registry import find_format
from deconvseg.data.headers import describe_unread
from deconvseg.data.types import LabelMap, smallest_integer_dtype
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import atomic_write


def write_label_map(label_map: LabelMap, path: str | PathLike[str], *, like: Path | None = None) -> None:
    """Write a mask by the suffix of ``path``, in the smallest integer type that holds its values, atomically.

    NIfTI, NRRD and MetaImage keep the affine; where ``like`` is a NIfTI on the same grid its qform and sform, their
    codes and its units are kept too, and where it is a NRRD or a MetaImage the world and the unit of its header. Raises
    `InputError` for values or shapes that the format cannot hold, for a format that is read and not written, and for an
    output whose parent is a file; `DeconvsegError` where the disk is full.
    """
    path = Path(path)
    pixels = label_map.pixels.astype(smallest_integer_dtype(label_map.pixels))
    known = find_format(path)
    if known is None:
        raise InputError(f"{path} has no suffix that a mask can be written as; use .nii.gz, .nrrd, .mha, .png or .tif")
    with atomic_write(path) as temporary:
        try:
            known.reader.write_labels(pixels, label_map.geometry, temporary, name=path, like=like)
        except (DeconvsegError, OSError, MemoryError):
            raise
        except Exception as error:
            # Of a reader from elsewhere: one mask that it cannot write must not end the others.
            raise InputError(
                f"{path} cannot be written ({type(error).__name__}: {error}); choose another format"
            ) from error


def mask_suffix(image_path: str | PathLike[str], values: Iterable[int] = ()) -> str:
    """The suffix of a mask of this image that may hold the label ``values``, as the reader of the image says.

    ``.nii.gz`` for NIfTI and other volumes, ``.nrrd`` for NRRD, ``.mha`` for MetaImage; for other 2D images ``.png``,
    or ``.tif`` where a value is negative or needs more than 16 bits. `InputError` for a format that is not read.
    """
    known = find_format(image_path)
    if known is None:
        raise InputError(describe_unread(Path(image_path)))
    with naming_file(Path(image_path), "image"):
        return known.reader.mask_suffix(values)
