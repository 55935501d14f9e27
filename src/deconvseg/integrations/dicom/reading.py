"""The voxels of a series, decoded, scaled frame by frame, and in the package's order of axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import Header, Image
from deconvseg.data.formats.decoding import check_described
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.dicom.instances import Instance, naming_damage
from deconvseg.integrations.dicom.series import Series
from deconvseg.integrations.dicom.slices import Slice
from deconvseg.integrations.dicom.sources import import_package
from deconvseg.integrations.dicom.stacking import Stack, stack

# What the numbers of these mean does not depend on how they are shown.
_MEASURED = ("CT", "PT", "NM", "MR")


def header_of(series: Series) -> Header:
    """Return the channels, shape and bytes per number of a series, with what had to be assumed."""
    found = stack(series)
    return Header(found.channels, found.shape, found.slices[0].instance.bytes_per_number, found.notes)


def read_series(series: Series) -> Image:
    """Return a series as an image: a volume (1, X, Y, Z), or a picture (1 or 3, rows, columns) that has no place.

    Intensities are scaled by the slope and intercept of their frame, in float32: Hounsfield units of a CT. Pictures in
    which small numbers are white (MONOCHROME1) are inverted. Raises :class:`~deconvseg.errors.InputError` for a series
    that is no volume on a regular grid (:func:`stack`) and for damaged files, and
    :class:`~deconvseg.errors.MissingPackageError` for a compression without a decoder.

    Example:
        >>> from deconvseg.integrations.dicom import find_series, read_series
        >>> image = read_series(find_series("STUDY").series[0])
        >>> image.pixels.shape, image.geometry.spacing
        ((1, 24, 20, 12), (1.0, 1.0, 2.0))

    """
    found = stack(series)
    if found.is_picture:
        return Image(_read_picture(found.slices[0]), found.geometry)
    return Image(_read_volume(found)[None], found.geometry)


def _read_volume(found: Stack) -> npt.NDArray[np.float32]:
    columns, rows, count = found.shape
    check_described(found.slices[0].instance.path, 4 * columns * rows * count, 4 * columns * rows * count)
    volume = np.empty((columns, rows, count), np.float32)
    numbered = sorted(enumerate(found.slices), key=lambda pair: (str(pair[1].instance.path), pair[1].index))
    for _, same in groupby(numbered, key=lambda pair: pair[1].instance.path):
        members = list(same)
        planes = decode(members[0][1].instance)
        for place, each in members:
            plane = planes[each.index] if len(each.instance.frames) > 1 else planes
            volume[:, :, place] = _scaled(plane, each).T
    return volume


def _read_picture(each: Slice) -> npt.NDArray[np.float32]:
    instance = each.instance
    numbers = decode(instance)
    if numbers.ndim == 3:
        return np.ascontiguousarray(np.moveaxis(numbers, -1, 0), np.float32)
    return _scaled(numbers, each)[None]


def _scaled(plane: npt.NDArray[Any], each: Slice) -> npt.NDArray[np.float32]:
    slope = each.frame.slope
    if not np.isfinite([slope, each.frame.intercept]).all() or slope == 0:
        scale = f"the rescale slope {slope:g} and intercept {each.frame.intercept:g}"
        raise InputError(f"{each.instance.path}: has {scale}, which leave no image; repair its header")
    scaled: npt.NDArray[np.float32] = (plane * np.float64(each.frame.slope) + each.frame.intercept).astype(np.float32)
    return scaled


def decode(instance: Instance) -> npt.NDArray[Any]:
    """Return the stored numbers of a file: (rows, columns), of several frames (N, rows, columns), in colour (…, 3).

    Small numbers that are white (MONOCHROME1) are made black where they are no measurements, over the stored range.
    """
    pydicom = import_package("pydicom")
    described = instance.rows * instance.columns * instance.samples * len(instance.frames) * instance.bytes_per_number
    check_described(instance.path, described, described)
    with naming_damage(instance.path), pydicom.config.disable_value_validation():
        data = pydicom.dcmread(instance.path, force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            # A file without its first part: pydicom found out how numbers are stored.
            implicit, little = data.original_encoding
            plain = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            data.file_meta.TransferSyntaxUID = plain if little else pydicom.uid.ExplicitVRBigEndian
        with _explaining_decoders(instance.path, pydicom, data):
            numbers: npt.NDArray[Any] = pydicom.pixels.pixel_array(data)
        if instance.photometric == "PALETTE COLOR":
            return np.asarray(pydicom.pixels.apply_color_lut(numbers, data))
        if "ModalityLUTSequence" in data:
            return np.asarray(pydicom.pixels.apply_modality_lut(numbers, data))
        if instance.samples == 1 and numbers.dtype.kind in "iu":
            numbers = _without_overlays(numbers, data)
            if instance.photometric == "MONOCHROME1" and instance.modality not in _MEASURED:
                signed = numbers.dtype.kind == "i"
                return (-1 if signed else 2 ** int(data.BitsStored) - 1) - numbers
    return numbers


def _without_overlays(numbers: npt.NDArray[Any], data: Any) -> npt.NDArray[Any]:
    """Clear the bits above those that are stored, in which old files keep overlays, and extend the sign."""
    unused = 8 * numbers.itemsize - int(data.BitsStored)
    if unused <= 0 or int(data.get("HighBit", data.BitsStored - 1)) != data.BitsStored - 1:
        return numbers
    cleared: npt.NDArray[Any] = np.left_shift(numbers, unused) >> unused
    return cleared


@contextmanager
def _explaining_decoders(path: Path, pydicom: Any, data: Any) -> Iterator[None]:
    """Say which compression has no decoder here."""
    syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
    if syntax is None or not syntax.is_compressed:
        yield
        return
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise InputError(f"{path} is compressed as {syntax.name}, which is not read; convert it first") from error
    if not decoder.is_available:
        raise MissingPackageError(
            f"{path} is compressed as {syntax.name}, for which no decoder is installed; install it with "
            "'pip install deconvseg[dicom]'"
        )
    yield
