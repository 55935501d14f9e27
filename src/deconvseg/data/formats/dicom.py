"""DICOM, where its package is installed: which files it is; `deconvseg.integrations.dicom` reads them."""

from __future__ import annotations

from importlib import import_module

from deconvseg.data.formats.dicom_files import can_read_dicom, is_dicom_file, is_series_folder
from deconvseg.data.formats.image_endings import DICOM
from deconvseg.data.formats.reader import Reader
from deconvseg.data.formats.registry import Format, add_format


def _reader() -> Reader:
    """Return the reader, which belongs to a higher floor and needs optional packages, so it is imported by name."""
    reader: Reader = import_module("deconvseg.integrations.dicom.reader").DicomReader()
    return reader


if can_read_dicom():
    add_format(Format("dicom", _reader, tuple(sorted(DICOM)), is_series_folder, True, is_dicom_file))
