"""The reader protocol of file formats, with defaults for most methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy.typing as npt

from deconvseg.data.formats.series_choice import SeriesChoice
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

if TYPE_CHECKING:
    from deconvseg.data.dataset import Case, Problem


class Segment(NamedTuple):
    """The display properties of a label: its value, name, and colour ``#rrggbb`` if it has one.

    Example:
        >>> from deconvseg.data import Segment
        >>> Segment(1, "organ", "#ff8800").name
        'organ'

    """

    value: int
    name: str
    colour: str | None = None


class Reader(Protocol):
    """Reads the files of one format; subclass it and register the class with `register_reader`.

    Subclasses must implement `read_header` and `read_channels`; the other methods have defaults. Every method raises
    `InputError`, naming the file, for a file that it cannot read or write.

    Set ``pictures`` if the files are photographs or other 2D pictures, grey or in colour: a number at the end of a
    file name is then part of the name, not a channel number. Set ``copies`` if a file next to one of the same name in
    another format is a preview or copy of it and must be ignored. Set ``own_grids`` if the channels of an image may
    have grids of their own in one world, onto the first of which a prediction resamples the others.
    """

    pictures: ClassVar[bool] = False
    copies: ClassVar[bool] = False
    own_grids: ClassVar[bool] = False

    @abstractmethod
    def read_header(self, path: Path) -> Header:
        """Return the header, without reading the voxels."""

    @abstractmethod
    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Return intensities (C, *S) of any numeric type, and their geometry.

        ``channels_last`` allows files with several numbers per voxel, or several volumes, which become the channels.
        """

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Return labels (*S) of any numeric type, and their geometry."""
        pixels, geometry = self.read_channels(path)
        if len(pixels) != 1:
            raise InputError(f"{path} holds {len(pixels)} channels, where a mask has one; write one label map")
        return pixels[0], geometry

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels (*S) to ``path``; errors name ``name``, to which the complete file is renamed afterwards.

        ``like`` is the image that the labels belong to: if it has the same format, its header is reused.
        """
        raise InputError(f"{name}: a mask is not written as {name.suffix.lower()}; use .nii.gz (3D) or .png (2D)")

    def write_segments(
        self,
        pixels: npt.NDArray[Any],
        geometry: Geometry,
        path: Path,
        *,
        name: Path,
        like: Path | None,
        segments: Sequence[Segment],
    ) -> None:
        """Write labels as `write_labels` does, with names and colours of ``segments`` if the format supports them."""
        self.write_labels(pixels, geometry, path, name=name, like=like)

    def mask_suffix(self, values: Iterable[int]) -> str:
        """Return the suffix of a mask of these images that can hold the label ``values``."""
        return ".nii.gz"

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return all files whose content determines the image."""
        return tuple(sorted(file for file in path.rglob("*") if file.is_file())) if path.is_dir() else (path,)

    def open_folder(self, folder: Path, choice: SeriesChoice) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
        """Return the cases of a folder whose files this reader sorts into images, and what is left out of them."""
        raise InputError(f"{folder} is a folder, where an image file is expected")

    def choose(self, folder: Path, series: Sequence[str]) -> Path:
        """Return the path of the image in a folder that ``series`` asks for, where a folder may hold several."""
        raise InputError(f"{folder}: `series`: its format has no series; omit it")

    def listed_as(self, path: Path) -> Path:
        """Return the file that represents the image in listings, if ``path`` is another part of it."""
        return path

    def read_alpha(self, path: Path) -> npt.NDArray[Any] | None:
        """Return the alpha channel (H, W) of a picture, or None if it has none."""
        return None

    def read_colours(self, path: Path) -> tuple[npt.NDArray[Any], Geometry] | None:
        """Return the colours (H, W, 3) of a picture in true colour, with its geometry; None for any other image."""
        return None

    def compression_with_losses(self, path: Path) -> str:
        """Return the name of the compression if it is lossy ("JPEG"), else an empty string."""
        return ""

    def may_be_cropped(self, path: Path) -> bool:
        """Return whether a mask may be cropped to the bounding box of its labels, with the position in its header."""
        return False
