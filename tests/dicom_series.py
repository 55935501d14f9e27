"""DICOM series that tests generate: any orientation, slices in any order, classic files or one multi-frame file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

# Direction cosines of the rows and of the columns in the patient's space (left, posterior, superior).
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
PATIENT = {"PatientName": "Generated^Head", "PatientID": "G-0001", "PatientBirthDate": "19700101", "PatientSex": "O"}
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "OT": SecondaryCaptureImageStorage}


@dataclass(frozen=True)
class GeneratedSeries:
    """What was written: its files in the order of the volume's slices, and the affine of its voxels.

    ``affine`` maps (column, row, slice) to RAS millimetres, the order of axes of `pixels`.
    """

    files: tuple[Path, ...]
    pixels: NDArray[np.int16]
    affine: NDArray[np.float64]
    uid: str
    study_uid: str

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def oblique(degrees: Sequence[float], orientation: Any = AXIAL) -> Any:
    """Return an orientation turned about the three axes of the patient, one after the other."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return tuple(tuple(map(float, turned @ np.asarray(axis))) for axis in orientation)


def save_series(
    folder: Path,
    volume: NDArray[Any],
    *,
    orientation: Any = AXIAL,
    position: Sequence[float] = (-30.0, -40.0, 50.0),
    spacing: Sequence[float] = (2.5, 0.8, 0.7),
    against_normal: bool = False,
    shuffle: int | None = 0,
    multi_frame: bool = False,
    study_uid: str | None = None,
    frame_uid: str | None = None,
    prefix: str = "IM",
    **attributes: Any,
) -> GeneratedSeries:
    """Write a volume (slices, rows, columns) of int16 as a series.

    ``spacing`` is the distance of slices, rows and columns. Slices lie along the normal of their planes, or
    ``against_normal``. Files and instance numbers are in an order of chance with the seed ``shuffle`` (None: in that of
    the slices). ``attributes`` are set in each file; a list has one value for each slice.
    """
    volume = np.asarray(volume, np.int16)
    rows, columns = (np.asarray(axis, np.float64) for axis in orientation)
    normal = np.cross(rows, columns) * (-1 if against_normal else 1)
    places = [np.asarray(position) + normal * spacing[0] * number for number in range(len(volume))]
    folder.mkdir(parents=True, exist_ok=True)
    uid, study = generate_uid(), study_uid or generate_uid()
    common = {"SeriesInstanceUID": uid, "StudyInstanceUID": study, "FrameOfReferenceUID": frame_uid or generate_uid()}
    affine = np.eye(4)
    steps = (rows * spacing[2], columns * spacing[1], normal * spacing[0])
    affine[:3] = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([*steps, position])
    pixels = np.ascontiguousarray(volume.transpose(2, 1, 0))
    cosines = [_number(value) for value in (*rows, *columns)]
    if multi_frame:
        file = folder / f"{prefix}.dcm"
        _save(_enhanced(volume, cosines, places, spacing, common | attributes), file)
        return GeneratedSeries((file,), pixels, affine, uid, study)
    numbers = list(range(len(volume)))
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(numbers)
    files = []
    for place, plane, number in zip(range(len(volume)), volume, numbers, strict=True):
        data = _classic(plane, attributes.get("Modality", "CT"))
        data.ImageOrientationPatient = cosines
        data.ImagePositionPatient = [_number(value) for value in places[place]]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        data.InstanceNumber = number + 1
        for name, value in (common | attributes).items():
            setattr(data, name, value[place] if isinstance(value, list) and len(value) == len(volume) else value)
        files.append(folder / f"{prefix}{number:04d}.dcm")
        _save(data, files[-1])
    return GeneratedSeries(tuple(files), pixels, affine, uid, study)


def save_picture(folder: Path, plane: NDArray[Any]) -> GeneratedSeries:
    """Write a plane (rows, columns) as an ultrasound image, which has no place in the patient."""
    made = save_series(folder, np.asarray(plane)[None], Modality="US")
    data = dcmread(made.files[0])
    for name in (
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
        "ImagePositionPatient",
        "ImageOrientationPatient",
    ):
        delattr(data, name)
    data.SOPClassUID = UltrasoundImageStorage
    _save(data, made.files[0])
    return made


def _number(value: float) -> str:
    """Return the decimal text of at most 16 characters that a file holds."""
    return f"{value:.13f}"[:16]


def _classic(plane: NDArray[np.int16], modality: str) -> Dataset:
    """Return one slice of a series, without its place."""
    data = _image(modality, _CLASSES.get(modality, CTImageStorage), plane.shape)
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.RescaleIntercept, data.RescaleSlope = 0, 1
    if modality == "CT":
        data.RescaleType, data.KVP = "HU", 120
    data.PixelData = plane.tobytes()
    return data


def _image(modality: str, sop_class: str, shape: tuple[int, ...]) -> Dataset:
    """Return the attributes that classic and multi-frame images share."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.Modality, data.Manufacturer = modality, "Generated"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200101", "120000", "1", "A-0001"
    data.ReferringPhysicianName, data.SeriesNumber, data.SeriesDescription = "", 3, f"{modality} generated"
    data.PositionReferenceIndicator = ""
    for name, value in PATIENT.items():
        setattr(data, name, value)
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    return data


def _enhanced(
    volume: NDArray[np.int16],
    cosines: Sequence[str],
    places: Sequence[NDArray[np.float64]],
    spacing: Sequence[float],
    attributes: dict[str, Any],
) -> Dataset:
    """Return a whole series as one multi-frame image, its frames in the order of the slices."""
    data = _image("MR", EnhancedMRImageStorage, volume.shape[1:])
    data.NumberOfFrames, data.InstanceNumber = len(volume), 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared, measures, plane, values = (Dataset() for _ in range(4))
    measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[2]], spacing[0]
    measures.SpacingBetweenSlices = spacing[0]
    plane.ImageOrientationPatient = list(cosines)
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = 0, 1, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [values]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, place in enumerate(places, 1):
        frame, content, where = Dataset(), Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number, [1, number]
        where.ImagePositionPatient = [_number(value) for value in place]
        frame.FrameContentSequence, frame.PlanePositionSequence = [content], [where]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    organisation = Dataset()
    organisation.DimensionOrganizationUID = generate_uid()
    data.DimensionOrganizationSequence = [organisation]
    data.DimensionIndexSequence = []
    for tag in (0x00209056, 0x00209057):  # the stack, and the position in it
        index = Dataset()
        index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = tag, 0x00209111
        data.DimensionIndexSequence.append(index)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.PixelData = volume.tobytes()
    return data


def _save(data: Dataset, file: Path) -> None:
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(file, enforce_file_format=True)
