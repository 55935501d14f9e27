"""What a file format needs to take part: the protocol of a reader, with what most formats have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy.typing as npt

from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError


class Segment(NamedTuple):
    """A label of a mask as it is to be shown: its value, its name, and its colour ``#rrggbb`` where it has one.

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

    `read_header` and `read_channels` must be written; the other methods have a default. Every method raises
    `InputError`, naming the file, for a file that it cannot read or write.

    ``pictures`` says that its files are photographs and other 2D pictures, grey or in colour: a number at the end of
    their names is part of the name and not a channel's. ``copies`` says that a file beside one of the same name in
    another format is a preview or a copy of that, and is left alone.
    """

    pictures: ClassVar[bool] = False
    copies: ClassVar[bool] = False

    @abstractmethod
    def read_header(self, path: Path) -> Header:
        """What is known of the image before its numbers are read."""

    @abstractmethod
    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, *S) of any number type, and their geometry.

        ``channels_last`` allows files that hold several numbers per voxel, or several volumes, as their channels.
        """

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (*S), as numbers of any type, and their geometry."""
        pixels, geometry = self.read_channels(path)
        if len(pixels) != 1:
            raise InputError(f"{path} holds {len(pixels)} channels, where a mask has one; write one label map")
        return pixels[0], geometry

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels (*S) to ``path``; errors speak of ``name``, which the file is given when it is whole.

        ``like`` is the image that the labels belong to; headers of the same format are taken from there.
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
        """Write labels as `write_labels` does, with the names and colours of ``segments`` where the format has them."""
        self.write_labels(pixels, geometry, path, name=name, like=like)

    def mask_suffix(self, values: Iterable[int]) -> str:
        """The suffix of a mask of these images that may hold the label ``values``."""
        return ".nii.gz"

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files that hold the image: what it changes with."""
        return tuple(sorted(file for file in path.rglob("*") if file.is_file())) if path.is_dir() else (path,)

    def listed_as(self, path: Path) -> Path:
        """The file that stands for the image in a listing, where ``path`` is another part of it."""
        return path

    def read_alpha(self, path: Path) -> npt.NDArray[Any] | None:
        """The alpha channel (H, W) of a picture, or None where it has none."""
        return None

    def read_colours(self, path: Path) -> tuple[npt.NDArray[Any], Geometry] | None:
        """The colours (H, W, 3) of a picture in true colour, with its geometry; None for any other image."""
        return None

    def compression_with_losses(self, path: Path) -> str:
        """The name of the file's compression if that changes numbers ("JPEG"), else an empty text."""
        return ""

    def may_be_cropped(self, path: Path) -> bool:
        """Whether a mask of such a file may hold the box of its labels alone, with the place of that in its header."""
        return False
