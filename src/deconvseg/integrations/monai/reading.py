"""The files of this package's formats, and the cases of its layouts, for MONAI's loaders."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from numpy.typing import NDArray

from deconvseg.data import (
    Case,
    Geometry,
    is_dataset,
    is_rgb,
    open_dataset,
    open_images,
    read_image,
    read_mask,
    select_split,
)
from deconvseg.errors import InputError
from deconvseg.planning import channel_order

_log = logging.getLogger("deconvseg")
_File = str | PathLike[str]


class ImageFileReader(ImageReader):
    """Read images as :func:`deconvseg.predict` does: every registered format, spacings in mm, channels first.

    The axes of pictures are (column, row), as those of MONAI's readers. ``channels_last`` allows several channels in
    one file. MONAI tries other readers where one fails to open a file, which would hide its error: files are therefore
    read in ``get_data``.

    Example:
        >>> from monai.transforms import LoadImage
        >>> from deconvseg.integrations.monai import ImageFileReader
        >>> LoadImage(reader=ImageFileReader(), ensure_channel_first=True)("scan.nii.gz").shape
        torch.Size([1, 20, 24, 12])

    """

    def __init__(self, *, channels_last: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last

    def verify_suffix(self, filename: Sequence[_File] | _File) -> bool:
        """Return True: what no reader of this package opens is an error of this package."""
        return True

    def read(self, data: Sequence[_File] | _File, **kwargs: Any) -> list[Path]:
        """Return the files, one per channel or one of all."""
        return [Path(data)] if isinstance(data, str | PathLike) else [Path(file) for file in data]

    def get_data(self, img: list[Path]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return an image (C, \\*S) and its metadata."""
        image = read_image(img, channels_last=self.channels_last)
        return as_monai(image.pixels, image.geometry)


class LabelFileReader(ImageFileReader):
    """Read masks as integers, with the values of their files.

    Example:
        >>> from monai.transforms import LoadImage
        >>> from deconvseg.integrations.monai import LabelFileReader
        >>> load = LoadImage(reader=LabelFileReader(), dtype="int64", ensure_channel_first=True)
        >>> load("truth.nii.gz").unique().tolist()
        [0, 3, 7]

    """

    def get_data(self, img: list[Path]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return a mask (1, \\*S) and its metadata."""
        mask = read_mask(img[0])
        return as_monai(mask.pixels[None], mask.geometry)


def as_monai(pixels: NDArray[Any], geometry: Geometry) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return pixels (C, \\*S) on MONAI's order of axes, with the metadata that its readers give."""
    affine = np.array(geometry.affine)
    if geometry.spatial_dims == 2:
        row, column = geometry.spacing
        pixels, affine = np.ascontiguousarray(pixels.swapaxes(1, 2)), np.diag([column, row, 1.0, 1.0])
    return pixels, {
        "affine": affine,
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(pixels.shape[1:]),
        "original_channel_dim": 0,
        "space": "RAS",
    }


def list_cases(
    folder: _File, channels: Sequence[str], *, labels: bool = False, split: str | None = None
) -> list[dict[str, Any]]:
    """Return the cases of a dataset or folder of images for a ``Dataset`` of MONAI, each with its files.

    The folder is read as by :func:`deconvseg.predict`, and the files are in the order of the named ``channels``. With
    ``labels`` only cases with a mask are listed, which must be a single file; ``split`` is one of the dataset's own
    file of splits. Raises :class:`~deconvseg.errors.InputError` for other channels, and for masks of several files.

    Example:
        >>> from deconvseg.integrations.monai import list_cases
        >>> cases = list_cases("DATASET", ["grey"], labels=True)
        >>> len(cases), sorted(cases[0])
        (8, ['image', 'label'])

    """
    place = Path(folder)
    cases, order = _find(place, channels, split)
    found = []
    for case in cases:
        if len(case.images) == len(order):
            files = [str(case.images[number]) for number in order]
        elif list(order) == sorted(order):
            files = [str(file) for file in case.images]
        else:
            raise InputError(f"{case.images[0]}: its channels are in another order than {', '.join(channels)}")
        entry: dict[str, Any] = {"image": files[0] if len(files) == 1 else files}
        if labels:
            if case.label is None:
                continue
            if case.masks:
                raise InputError(
                    f"{place}: the mask of {case.name} is made of {len(case.mask_files)} files or colours, which MONAI "
                    "does not join; convert the dataset first (deconvseg data convert)"
                )
            entry["label"] = str(case.label)
        found.append(entry)
    if not found:
        raise InputError(f"{place}: none of its {len(cases)} cases has a mask; give a dataset with masks")
    return found


def _find(place: Path, channels: Sequence[str], split: str | None) -> tuple[Sequence[Case], tuple[int, ...]]:
    order = tuple(range(len(channels)))
    if not is_dataset(place):
        cases, problems = open_images(place, channels=1 if is_rgb(channels) else len(channels), channel_names=channels)
        if split is not None:
            raise InputError(f"`split={split!r}`: {place} is no dataset with splits; omit it, or give a dataset")
        for problem in problems:
            _log.warning("%s %s", problem.file, problem.message)
        return cases, order
    dataset = open_dataset(place)
    known = [case.name for case in dataset.cases]
    chosen = select_split(known, split, own=dataset.splits_file, test=dataset.declared_test)
    cases = tuple(case for case in dataset.cases if chosen is None or case.name in chosen)
    if dataset.guessed_channels or len(dataset.channel_names) != len(channels):
        return cases, order
    named = channel_order(dataset.channel_names, channels)
    if named is None:
        raise InputError(
            f"{place}: has the channels {', '.join(dataset.channel_names)}, but the network needs {', '.join(channels)}"
        )
    return cases, named
