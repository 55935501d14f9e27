"""DICOM: segmentations of series, written and read, with codes of their structures."""

from deconvseg.integrations.dicom.codes import find_code, read_codes
from deconvseg.integrations.dicom.segmentation import Algorithm, CodedSegment, write_segmentation
from deconvseg.integrations.dicom.segmentation_reading import ReadSegmentation, read_segmentation

__all__ = [
    "Algorithm",
    "CodedSegment",
    "ReadSegmentation",
    "find_code",
    "read_codes",
    "read_segmentation",
    "write_segmentation",
]
