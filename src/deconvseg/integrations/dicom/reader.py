"""The reader of DICOM for the registry of formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from deconvseg.data import Case, Geometry, Header, Problem, Reader, SeriesChoice
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.dicom.choosing import choose_series, open_studies
from deconvseg.integrations.dicom.instances import read_instance
from deconvseg.integrations.dicom.reading import header_of, read_series
from deconvseg.integrations.dicom.segmentation_reading import read_segmentation
from deconvseg.integrations.dicom.series import series_of


class DicomReader(Reader):
    """Reads a series by any of its files, or by the folder that holds it alone."""

    own_grids = True

    def read_header(self, path: Path) -> Header:
        """Return the header of the series, without its voxels."""
        return header_of(series_of(path))

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Return the intensities (1, X, Y, Z) of a volume, or (C, rows, columns) of a picture."""
        image = read_series(series_of(path))
        return image.pixels, image.geometry

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Return the labels of a DICOM segmentation, or the stored numbers of a series."""
        if self.may_be_cropped(path):
            found = read_segmentation(path).labels
            return found.pixels, found.geometry
        return super().read_labels(path)

    def may_be_cropped(self, path: Path) -> bool:
        """Return True for a segmentation, which has only the planes with segments."""
        return path.is_file() and read_instance(path).is_segmentation

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the files of the series; only the path if it is none."""
        try:
            return series_of(path).files
        except MissingPackageError:
            raise
        except InputError:
            return (path,)  # reading the image reports the error

    def listed_as(self, path: Path) -> Path:
        """Return the first file of the series by name, or the folder itself."""
        return path if path.is_dir() else min(self.files(path))

    def open_folder(self, folder: Path, choice: SeriesChoice) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
        """Return the cases of a folder of one or many studies, and the files that were skipped."""
        return open_studies(folder, choice)

    def choose(self, folder: Path, series: Sequence[str]) -> Path:
        """Return the path of the series in a folder that is asked for."""
        return choose_series(folder, series)
