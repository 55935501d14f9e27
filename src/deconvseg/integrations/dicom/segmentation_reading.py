"""Read DICOM segmentations as label maps."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from deconvseg.data import Geometry, LabelMap
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.segmentation import VALUE_TEXT
from deconvseg.integrations.dicom.sources import import_package
from deconvseg.system import FOREIGN_ERRORS, first_line

_VALUE = re.compile(rf"{VALUE_TEXT}(-?\d+)$")


@dataclass(frozen=True)
class ReadSegmentation:
    """A DICOM-SEG as a label map, the names of its labels by value, and the UID of the series that it segments."""

    labels: LabelMap
    names: dict[int, str]
    series_uid: str


def read_segmentation(path: str | PathLike[str]) -> ReadSegmentation:
    """Read a DICOM-SEG as a label map (columns, rows, slices along their normal) on the planes that it has frames of.

    A label is the number of its segment, or the value that this package has written into the description of the
    segment. Planes without frames between others are background; those before the first and after the last are left
    out. Raises :class:`~deconvseg.errors.InputError` for segments that overlap, fractional segments and frames that are
    no volume.

    Example:
        >>> import highdicom
        >>> from deconvseg.data import Geometry
        >>> from deconvseg.integrations.dicom import (
        ...     Algorithm, CodedSegment, find_code, read_segmentation, write_segmentation
        ... )
        >>> from pydicom.data import get_testdata_file
        >>> scan = get_testdata_file("CT_small.dcm")
        >>> volume = highdicom.imread(scan).get_volume()
        >>> bone = CodedSegment(7, "bone", "#cc6677", find_code("bone"))
        >>> mask, geometry = 7 * (volume.array > 1200), Geometry(volume.get_affine("RAS"))
        >>> made_by = Algorithm("threshold", "none")
        >>> write_segmentation(mask, geometry, "seven.dcm", series=[scan], segments=[bone], algorithm=made_by)
        >>> read_segmentation("seven.dcm").names
        {7: 'bone'}

    """
    highdicom = import_package("highdicom")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = highdicom.seg.segread(path)
            if found.segmentation_type.value == "FRACTIONAL":
                raise InputError(
                    f"{path}: is a fractional segmentation, whose numbers are no labels; give a binary one"
                )
            array, geometry = _read_pixels(found)
    except InputError:
        raise
    except (OSError, *FOREIGN_ERRORS) as error:
        raise InputError(
            f"{path}: its segments cannot be read as one label map ({first_line(error)}); segments must not overlap, "
            "and their frames must be one volume"
        ) from error
    descriptions = [found.get_segment_description(number) for number in found.segment_numbers]
    values = {described.segment_number: _value_of(described) for described in descriptions}
    lookup = np.zeros(max(values, default=0) + 1, np.int64)
    for number, value in values.items():
        lookup[number] = value
    # The background of a label map has a segment too.
    lookup[0] = 0
    pixels = lookup[array]
    names = {values[described.segment_number]: described.segment_label for described in descriptions}
    names.pop(0, None)
    references = found.get("ReferencedSeriesSequence")
    series = str(references[0].SeriesInstanceUID) if references else ""
    return ReadSegmentation(LabelMap(pixels, geometry), names, series)


def _read_pixels(found: Any) -> tuple[Any, Geometry]:
    """Return the numbers of segments (columns, rows, slices), or (rows, columns) without positions."""
    if "FrameOfReferenceUID" not in found:
        images = [uids[2] for uids in found.get_source_image_uids()]
        planes = found.get_pixels_by_source_instance(
            images[:1], combine_segments=True, assert_missing_frames_are_empty=True
        )
        return planes[0], Geometry.identity(2)
    volume = found.get_volume(combine_segments=True)
    affine = volume.get_affine("RAS") @ np.eye(4)[[2, 1, 0, 3]]
    array = volume.array.transpose(2, 1, 0)
    if np.linalg.det(affine[:3, :3]) < 0:
        # Slices along the normal of their planes, the order of series.
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
        array = array[:, :, ::-1]
    return array, Geometry(affine)


def _value_of(described: Any) -> int:
    """Return the label of a segment."""
    value = _VALUE.search(described.get("SegmentDescription", ""))
    return int(value[1]) if value else int(described.segment_number)
