"""Write DICOM segmentations (SEG) of a series: one object with a coded segment for each structure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deconvseg._version import __version__
from deconvseg.data import Geometry
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.sources import grid_of, import_package, read_sources
from deconvseg.planning import SegmentCode
from deconvseg.system import FOREIGN_ERRORS, atomic_write, first_line

SegmentationKind: TypeAlias = Literal["binary", "labelmap", "fractional"]

# The description of a segment ends with the value that it has in label maps.
VALUE_TEXT = "label value "
# Grids agree if a voxel is displaced by no more than this share of itself.
_TOLERANCE = 1e-3
_MOST_LABELS = 2**16 - 1


@dataclass(frozen=True)
class CodedSegment:
    """A structure of a mask: its value in label maps, its name, its colour ``#rrggbb``, and its code.

    Example:
        >>> from deconvseg.integrations.dicom import CodedSegment, find_code
        >>> CodedSegment(1, "left kidney", "#cc6677", find_code("left kidney")).code.meaning
        'Left Kidney'

    """

    value: int
    name: str
    colour: str
    code: SegmentCode


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation: its name, the name of its network, and the SHA-256 of each network's weights."""

    name: str
    network: str
    weights: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str]:
        """The names and values of DICOM's attribute Algorithm Parameters."""
        return {f"weights{number}_sha256": value for number, value in enumerate(self.weights, 1)}


def write_segmentation(
    pixels: NDArray[Any],
    geometry: Geometry,
    path: str | PathLike[str],
    *,
    series: Sequence[str | PathLike[str]],
    segments: Sequence[CodedSegment],
    algorithm: Algorithm,
    kind: SegmentationKind = "binary",
    others: Sequence[str | PathLike[str]] = (),
) -> None:
    """Write the mask of a series as a DICOM-SEG, atomically and uncompressed.

    ``pixels`` are labels (\\*S) with the values of the ``segments``, or one array (S, \\*S) of each segment: masks of 0
    and 1, which may overlap, or for the ``kind`` "fractional" probabilities in float32. ``geometry`` is theirs, on the
    grid of the ``series`` (its files), with axes in any order and direction; frames are written in the order of the
    series and refer to its images. ``others`` are the files of further series that the mask was made from.

    In a "binary" and a "fractional" SEG each segment has frames of its own, numbered from 1; frames without voxels are
    left out, and a mask without any has the first frame of each segment, empty. In a "labelmap" the numbers of segments
    are the values. The patient, the study and the frame of reference are those of the series; nothing else of it is
    copied. Raises :class:`~deconvseg.errors.InputError` for a mask on another grid, segments that overlap in a
    "labelmap", and values outside 1 to 65535 there.

    Example:
        >>> import highdicom
        >>> from deconvseg.data import Geometry
        >>> from deconvseg.integrations.dicom import Algorithm, CodedSegment, find_code, write_segmentation
        >>> from pydicom.data import get_testdata_file
        >>> scan = get_testdata_file("CT_small.dcm")
        >>> volume = highdicom.imread(scan).get_volume()
        >>> bright = (volume.array > 1200).astype("uint8")
        >>> bone = CodedSegment(1, "bone", "#cc6677", find_code("bone"))
        >>> geometry, made_by = Geometry(volume.get_affine("RAS")), Algorithm("threshold", "none")
        >>> write_segmentation(bright, geometry, "bone.dcm", series=[scan], segments=[bone], algorithm=made_by)
        >>> int(highdicom.seg.segread("bone.dcm").pixel_array.sum()) == int(bright.sum())
        True

    """
    highdicom, path = import_package("highdicom"), Path(path)
    sources, further = read_sources(series), read_sources(others)
    segments = sorted(segments, key=lambda segment: segment.value) if kind == "labelmap" else segments
    numbers = _number(segments, kind, path)
    stacked = pixels.ndim == geometry.spatial_dims + 1
    if stacked and kind == "labelmap":
        raise InputError(f"{path}: a DICOM label map holds labels that exclude each other; write masks as 'binary'")
    if not stacked:
        pixels = _renumber(pixels, segments, numbers, path)
    described = [
        _describe(highdicom, segment, number, algorithm) for segment, number in zip(segments, numbers, strict=True)
    ]
    array = _arrange(highdicom, pixels, geometry, sources, numbers if stacked else None, path)
    unusual = [text for segment in segments for text in (segment.name, segment.code.meaning) if not text.isascii()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = highdicom.seg.Segmentation(
                source_images=sources,
                further_source_images=[one for one in further if one.StudyInstanceUID == sources[0].StudyInstanceUID],
                pixel_array=array,
                segmentation_type=kind.upper(),
                segment_descriptions=described,
                series_instance_uid=highdicom.UID(),
                series_number=_series_number(sources[0]),
                series_description=f"Segmentation by {algorithm.name}"[:64],
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="deconvseg",
                manufacturer_model_name=algorithm.network,
                software_versions=__version__,
                device_serial_number=algorithm.weights[0] if algorithm.weights else "none",
                content_label="SEGMENTATION",
                omit_empty_frames=bool(pixels.any()),
                **({"specific_character_set": "ISO_IR 192"} if unusual else {}),
            )
    except FOREIGN_ERRORS as error:
        raise InputError(
            f"{path}: the mask cannot be written for the series of {series[0]} ({first_line(error)}); write it as "
            "NIfTI (`to='nifti'`)"
        ) from error
    if "FrameOfReferenceUID" not in made:
        # Images without a place must have it, known or not.
        made.PatientOrientation = None
    elif isinstance(array, highdicom.Volume):
        # An empty mask has one plane, of which highdicom does not write the distance to the next one. The attribute
        # holds 16 characters.
        (measures,) = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        measures.SpacingBetweenSlices = f"{array.spacing_between_slices:.9g}"
    with atomic_write(path) as temporary:
        made.save_as(temporary)


def _number(segments: Sequence[CodedSegment], kind: SegmentationKind, path: Path) -> list[int]:
    """Return the number of each segment: from 1, or in a label map its value."""
    if not segments:
        raise InputError(f"{path}: give at least one segment")
    if kind != "labelmap":
        return list(range(1, len(segments) + 1))
    numbers = [segment.value for segment in segments]
    if wrong := [value for value in numbers if not 1 <= value <= _MOST_LABELS]:
        raise InputError(
            f"{path}: a DICOM label map holds values from 1 to {_MOST_LABELS}, not {wrong[0]}; write it as 'binary'"
        )
    return numbers


def _renumber(
    labels: NDArray[Any], segments: Sequence[CodedSegment], numbers: Sequence[int], path: Path
) -> NDArray[np.uint16]:
    """Return labels with the numbers of the segments in place of their values, and 0 for the background."""
    values = np.array([segment.value for segment in segments])
    order = np.argsort(values)
    known = np.append(values[order], np.iinfo(np.int64).max)
    places = np.searchsorted(known, labels)
    found = known[places] == labels
    renumbered = np.where(found, np.append(np.array(numbers)[order], 0)[places], 0).astype(np.uint16)
    if foreign := sorted({int(value) for value in np.unique(labels[~found])} - {0}):
        raise InputError(f"{path}: the mask holds the value {foreign[0]}, which no segment has")
    return renumbered


def _arrange(
    highdicom: Any,
    pixels: NDArray[Any],
    geometry: Geometry,
    sources: Sequence[Any],
    stacked: Sequence[int] | None,
    path: Path,
) -> Any:
    """Return the array or volume that highdicom takes, on the grid and in the order of the series.

    ``stacked`` are the numbers of segments with an array each, None for a label map.
    """
    # Segments are the last axis there.
    pixels = pixels if stacked is None else np.moveaxis(pixels, 0, -1)
    grid = grid_of(sources)
    if geometry.spatial_dims == 2 or grid is None:
        plane = pixels if geometry.spatial_dims == 2 else np.swapaxes(pixels[:, :, 0], 0, 1)
        if plane.shape[:2] != (sources[0].Rows, sources[0].Columns) or len(sources) > 1:
            raise InputError(f"{path}: the mask {pixels.shape} is not on the grid of its image; write it as NIfTI")
        return plane[None]
    channels = {} if stacked is None else {"channels": {"SegmentNumber": list(stacked)}}
    volume = highdicom.Volume(
        array=pixels,
        affine=geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=grid.frame_of_reference_uid,
        from_reference_convention="RAS",
        **channels,
    )
    try:
        volume = volume.match_geometry(grid, tol=_TOLERANCE)
    except RuntimeError as error:
        raise InputError(
            f"{path}: the mask is not on the grid of its series ({first_line(error)}); give one on the image's own grid"
        ) from error
    if volume.spatial_shape != grid.spatial_shape or np.prod(pixels.shape[:3]) != np.prod(grid.spatial_shape):
        raise InputError(f"{path}: the mask has {pixels.shape[:3]} voxels, but its series {grid.spatial_shape}")
    # Without voxels one frame of each segment suffices; the positions are then exactly those of the series.
    whole = highdicom.Volume(
        array=volume.array,
        affine=grid.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=grid.frame_of_reference_uid,
        **channels,
    )
    return whole if pixels.any() else whole[:1]


def _describe(highdicom: Any, segment: CodedSegment, number: int, algorithm: Algorithm) -> Any:
    """Return highdicom's description of a segment."""
    concept, code = highdicom.sr.CodedConcept, segment.code
    identification = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=concept("123109", "DCM", "Artificial Intelligence"),
        version=__version__,
        source="deconvseg",
        parameters=algorithm.parameters or None,
    )

    def coded(term: tuple[str, str, str]) -> Any:
        scheme, value, meaning = term
        return concept(value, scheme, meaning)

    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=coded(code.category),
        segmented_property_type=coded(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        anatomic_regions=None if code.region is None else [coded(code.region)],
        display_color=highdicom.color.CIELabColor.from_string(segment.colour),
    )
    described.SegmentDescription = f"{segment.name}, {VALUE_TEXT}{segment.value}"
    if code.modifier is not None:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            coded(code.modifier)
        ]
    if code.region_modifier is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [coded(code.region_modifier)]
    return described


def _series_number(source: Any) -> int:
    """Return a number after those that scanners give, which tells from which series a segmentation is."""
    return 9000 + int(source.get("SeriesNumber") or 0) % 1000
