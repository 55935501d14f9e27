"""The headers of DICOM files: what identifies an image, and where its frames lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.integrations.dicom.sources import import_package
from deconvseg.system import one_line

Vector = npt.NDArray[np.float64]

# Attributes by which the frames at one position of a series may differ: a volume per value.
_MARKS = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "InversionTime", "FlipAngle", "TriggerTime"),
    *("DiffusionBValue", "ImageType", "AcquisitionTime", "ContentTime"),
)
# The same in the functional groups of enhanced images: the sequence and the attribute in its item.
_GROUP_MARKS = (
    *(("FrameContentSequence", name) for name in ("TemporalPositionIndex", "StackID", "FrameAcquisitionNumber")),
    *(("MREchoSequence", "EffectiveEchoTime"), ("MRDiffusionSequence", "DiffusionBValue")),
    *(("MRImageFrameTypeSequence", "FrameType"), ("CTImageFrameTypeSequence", "FrameType")),
)
_IDENTITY = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesDescription"),
    *("SeriesNumber", "InstanceNumber", "FrameOfReferenceUID", "ImageType", "DirectoryRecordSequence"),
)
_PIXELS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "PixelRepresentation"),
)
_PLACE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_MACROS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    "PixelValueTransformationSequence",
)
_SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
_SEGMENTATION = "a segmentation"
# Objects that hold pixels and are no images of the patient.
_DERIVED = {
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"), _SEGMENTATION),
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose distribution",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
}
_OTHERS = {
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.104": "a document",
    "1.2.840.10008.5.1.4.1.1.481": "a treatment plan or its structures",
    "1.2.840.10008.5.1.4.1.1.66": "raw data or a registration",
    "1.2.840.10008.5.1.4.1.1.4.2": "a spectrum",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """A plane of pixels in the world of DICOM (LPS, mm), and how its stored numbers are scaled.

    ``position`` is the centre of the first pixel, ``rows`` the direction of increasing columns (along a row) and
    ``columns`` that of increasing rows; they are None where the header gives none. ``spacing`` is that between rows and
    between columns, ``between`` that of slices. ``marks`` are attributes by which volumes of one series differ.
    """

    position: Vector | None
    rows: Vector | None
    columns: Vector | None
    spacing: tuple[float, float] | None
    thickness: float | None
    between: float | None
    slope: float
    intercept: float
    marks: Mapping[str, str]

    @property
    def normal(self) -> Vector | None:
        """The direction from slice to slice: the cross product of both directions of the plane."""
        if self.rows is None or self.columns is None:
            return None
        return np.asarray(np.cross(self.rows, self.columns), np.float64)


@dataclass(frozen=True, eq=False)
class Instance:
    """The header of one file: its identity, the size and type of its pixels, and its frames.

    ``not_image`` says what the object is where it is no image.
    """

    path: Path
    uid: str
    series_uid: str
    study_uid: str
    sop_class: str
    modality: str
    description: str
    series_number: int | None
    number: int | None
    frame_of_reference: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    bytes_per_number: int
    photometric: str
    frames: tuple[Frame, ...]
    not_image: str | None

    @property
    def is_secondary(self) -> bool:
        """Whether it is a secondary capture: a screenshot or a scanned page."""
        return self.sop_class == _SECONDARY_CAPTURES or self.sop_class.startswith(f"{_SECONDARY_CAPTURES}.")

    @property
    def is_segmentation(self) -> bool:
        """Whether it is a segmentation."""
        return _DERIVED.get(self.sop_class) == _SEGMENTATION

    @property
    def is_localiser(self) -> bool:
        """Whether the scanner calls it a localiser (scout, topogram)."""
        return any("LOCALI" in part.upper() for part in self.image_type)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn the errors of pydicom and of decoders, which may be any, into an `InputError` that names the file."""
    try:
        yield
    except (DeconvsegError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path} is truncated or damaged ({one_line(error)[:200]}); copy it again") from error


def read_instance(path: Path) -> Instance:
    """Return the header of a file, without its pixels; `InputError` for a file that is not DICOM or is damaged."""
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    return _read_instance(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2**15)
def _read_instance(path: Path, size: int, changed: int) -> Instance:
    with naming_damage(path):
        header, has_pixels = _read_header(path)
        return _as_instance(path, size, header, has_pixels)


def _read_header(path: Path) -> tuple[Any, bool]:
    """Return the wanted attributes of a file, and whether pixels follow them."""
    pydicom = import_package("pydicom")
    wanted = [*_IDENTITY, *_PIXELS, *_PLACE, *_MARKS]
    with path.open("rb") as stream, pydicom.config.disable_value_validation():
        start = stream.read(132)
        bare = start[128:132] != b"DICM"
        stream.seek(0)
        try:
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=bare, specific_tags=wanted)
        except pydicom.errors.InvalidDicomError as error:
            raise InputError(f"{path} is not DICOM; remove it, or give another file") from error
        if not header or len(start) < 132:
            raise InputError(f"{path} is not DICOM, or is truncated in its header; copy it again")
        deflated = header.file_meta.get("TransferSyntaxUID", "") == pydicom.uid.DeflatedExplicitVRLittleEndian
        # pydicom stops at the pixels; the rest of a deflated file is in no place of the stream.
        rest = b"" if deflated else stream.read(4)
        has_pixels = deflated or rest[:2] in (b"\xe0\x7f", b"\x7f\xe0")
    return header, has_pixels


def read_attributes(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return attributes of a file as text, by their keywords; `InputError` for a keyword that DICOM does not have."""
    pydicom = import_package("pydicom")
    for name in names:
        if pydicom.datadict.tag_for_keyword(name) is None:
            raise InputError(f"{name!r} is no attribute of DICOM; give its keyword, as SeriesDescription")
    with naming_damage(path), pydicom.config.disable_value_validation():
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(names))
        return {name: _text(header, name) for name in names}


def _as_instance(path: Path, size: int, header: Any, has_pixels: bool) -> Instance:
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    return Instance(
        path=path,
        uid=_text(header, "SOPInstanceUID"),
        series_uid=_text(header, "SeriesInstanceUID"),
        study_uid=_text(header, "StudyInstanceUID"),
        sop_class=_text(header, "SOPClassUID"),
        modality=_text(header, "Modality"),
        description=_text(header, "SeriesDescription"),
        series_number=_whole(header, "SeriesNumber"),
        number=_whole(header, "InstanceNumber"),
        frame_of_reference=_text(header, "FrameOfReferenceUID"),
        image_type=tuple(map(str, _values(header, "ImageType"))),
        rows=rows,
        columns=columns,
        samples=int(header.get("SamplesPerPixel") or 1),
        bytes_per_number=max(1, int(header.get("BitsAllocated") or 8) // 8),
        photometric=_text(header, "PhotometricInterpretation"),
        frames=tuple(_frames(path, size, header)) if has_pixels else (),
        not_image=_describe_other(header, has_pixels and rows > 0 and columns > 0),
    )


def _describe_other(header: Any, has_pixels: bool) -> str | None:
    """Say what an object is that is no image; None for an image."""
    sop_class = _text(header, "SOPClassUID")
    if "DirectoryRecordSequence" in header:
        return "the directory of a medium"
    if sop_class in _DERIVED:
        return _DERIVED[sop_class]
    kind = next((what for prefix, what in _OTHERS.items() if f"{sop_class}.".startswith(f"{prefix}.")), None)
    if kind is not None:
        return kind
    return None if has_pixels else "it holds no pixel data"


def _frames(path: Path, size: int, header: Any) -> Iterator[Frame]:
    count = max(1, int(header.get("NumberOfFrames") or 1))
    if count > size:
        raise InputError(f"{path} is damaged: it says that {size} bytes hold {count} frames; copy it again")
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        marks = {name: _text(header, name) for name in _MARKS if _text(header, name)}
        frame = _frame(header, header, header, header, marks)
        yield from repeat(frame, count)  # they have no place each
        return
    if len(groups) != count:
        raise InputError(f"{path} has {count} frames, and describes {len(groups)}; copy it again")
    for group in groups:
        place, plane, measures, scale = (_macro(name, group, shared) for name in _MACROS)
        found = {name: _text(_macro(macro, group, shared), name) for macro, name in _GROUP_MARKS}
        yield _frame(place, plane, measures, scale, {name: text for name, text in found.items() if text})


def _macro(name: str, group: Any, shared: Any) -> Any:
    """Return the item of a functional group: that of the frame, or the one that all frames share; or an empty one."""
    for holder in (group, shared):
        items = None if holder is None else holder.get(name)
        if items:
            return items[0]
    return {}


def _frame(place: Any, plane: Any, measures: Any, scale: Any, marks: Mapping[str, str]) -> Frame:
    orientation = _numbers(plane, "ImageOrientationPatient", 6)
    spacing = _numbers(measures, "PixelSpacing", 2)
    between = _numbers(measures, "SpacingBetweenSlices", 1)
    thickness = _numbers(measures, "SliceThickness", 1)
    slope, intercept = _numbers(scale, "RescaleSlope", 1), _numbers(scale, "RescaleIntercept", 1)
    return Frame(
        position=_numbers(place, "ImagePositionPatient", 3),
        rows=None if orientation is None else orientation[:3],
        columns=None if orientation is None else orientation[3:],
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        thickness=None if thickness is None else abs(float(thickness[0])),
        between=None if between is None else abs(float(between[0])),
        slope=1.0 if slope is None else float(slope[0]),
        intercept=0.0 if intercept is None else float(intercept[0]),
        marks=marks,
    )


def _values(header: Any, name: str) -> list[Any]:
    value = header.get(name)
    if value is None or isinstance(value, str):
        return [] if not value else [value]
    return list(value) if hasattr(value, "__iter__") else [value]


def _numbers(header: Any, name: str, count: int) -> Vector | None:
    """Return so many numbers of an attribute; None where it is missing, empty or has another number of values."""
    values = _values(header, name)
    if len(values) != count or any(value is None or value == "" for value in values):
        return None
    return np.array([float(value) for value in values])


def _text(header: Any, name: str) -> str:
    return " ".join("\\".join(map(str, _values(header, name))).split())


def _whole(header: Any, name: str) -> int | None:
    number = _numbers(header, name, 1)
    return None if number is None else int(number[0])
