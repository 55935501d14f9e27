"""DICOM: series in, as volumes and pictures; segmentations of them out, with codes of their structures."""

from deconvseg.integrations.dicom.codes import find_code, read_codes
from deconvseg.integrations.dicom.listing import ListedSeries, SeriesList, list_folder
from deconvseg.integrations.dicom.reading import read_series
from deconvseg.integrations.dicom.segmentation import Algorithm, CodedSegment, write_segmentation
from deconvseg.integrations.dicom.segmentation_reading import ReadSegmentation, read_segmentation
from deconvseg.integrations.dicom.series import FoundSeries, Series, Skipped, find_series, series_of
from deconvseg.integrations.dicom.slices import Slice
from deconvseg.integrations.dicom.stacking import Stack, stack

__all__ = [
    "Algorithm",
    "CodedSegment",
    "FoundSeries",
    "ListedSeries",
    "ReadSegmentation",
    "Series",
    "SeriesList",
    "Skipped",
    "Slice",
    "Stack",
    "find_code",
    "find_series",
    "list_folder",
    "read_codes",
    "read_segmentation",
    "read_series",
    "series_of",
    "stack",
    "write_segmentation",
]
