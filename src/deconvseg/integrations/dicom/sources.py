"""The images that a segmentation refers to: what it takes from their headers, and the grid of their series."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from typing import Any

from deconvseg.errors import InputError, MissingPackageError
from deconvseg.system import FOREIGN_ERRORS, first_line

# A segmentation must have the patient, the study and the frame of reference of its images. What is not listed here is
# not read, so it cannot get into one.
_REQUIRED = {
    "PatientID": "",
    "PatientName": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "AccessionNumber": "",
    "StudyID": "",
    "StudyDate": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
}
_READ = (
    *_REQUIRED,
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber"),
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDescription", "Modality", "FrameOfReferenceUID", "PositionReferenceIndicator", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "InstanceNumber"),
    *("DimensionIndexSequence", "DimensionOrganizationSequence", "ImageType", "BurnedInAnnotation"),
    *("PixelAspectRatio", "ImagerPixelSpacing", "LossyImageCompression", "LossyImageCompressionRatio"),
    *("LossyImageCompressionMethod", "LongitudinalTemporalInformationModified"),
)
_SEXES = ("", "M", "F", "O")


def import_package(name: str) -> Any:
    """Return a module of the extra ``dicom``; :class:`MissingPackageError` says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"DICOM needs the package {error.name or name}; install it with 'pip install deconvseg[dicom]'"
        ) from error


def read_sources(files: Sequence[str | PathLike[str]]) -> list[Any]:
    """Return the headers of images, with what a segmentation of them needs and without their pixels.

    Attributes that every image must have, but anonymised ones often lack, are then empty.
    """
    pydicom = import_package("pydicom")
    sources = []
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_READ))
        except (OSError, *FOREIGN_ERRORS) as error:
            raise InputError(f"{file}: cannot be read as DICOM ({first_line(error)})") from error
        for name, value in _REQUIRED.items():
            if getattr(header, name, None) is None:
                setattr(header, name, value)
        if header.PatientSex not in _SEXES:
            header.PatientSex = ""
        sources.append(header)
    return sources


def grid_of(sources: Sequence[Any]) -> Any:
    """Return highdicom's geometry of a series with positions in the patient: slices, rows, columns; None without."""
    highdicom = import_package("highdicom")
    first = sources[0]
    if len(sources) == 1 and "PerFrameFunctionalGroupsSequence" in first:
        return highdicom.Image.from_dataset(first, copy=False).get_volume_geometry()
    if "FrameOfReferenceUID" not in first or "ImagePositionPatient" not in first:
        return None
    spacing = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0
    order = [0]
    if len(sources) > 1:
        spacing, order = highdicom.spatial.get_series_volume_positions(sources, orientation_tol=1e-3)
        if spacing is None:
            return None
    start = sources[order.index(0)]
    return highdicom.VolumeGeometry.from_attributes(
        image_position=start.ImagePositionPatient,
        image_orientation=start.ImageOrientationPatient,
        rows=start.Rows,
        columns=start.Columns,
        pixel_spacing=start.PixelSpacing,
        spacing_between_slices=spacing,
        number_of_frames=len(sources),
        coordinate_system="PATIENT",
        frame_of_reference_uid=start.FrameOfReferenceUID,
    )
