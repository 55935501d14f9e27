"""Restore segmentations that 3D Slicer has cropped to their segments to the grid of the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from deconvseg.data.formats.registry import find_format
from deconvseg.data.grids import check_same_grid
from deconvseg.data.labels.mask_values import read_mask
from deconvseg.data.labels.sources import MaskSource
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError

_NEAR_WHOLE = 0.05  # voxels


def read_mask_pair(
    truth: Path | MaskSource, prediction: Path, *, foreground: bool = False
) -> tuple[LabelMap, LabelMap]:
    """Read a true and a predicted mask with `read_mask`, on one grid; a `MaskSource` reads its own files.

    A mask that 3D Slicer has cropped is put on the grid of the other. Raises the errors of `read_mask`, and
    `InputError` for masks on different grids.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import read_mask_pair
        >>> truth, prediction = read_mask_pair(Path("TRUTH/disc0.png"), Path("MASKS/disc0.png"))
        >>> truth.shape == prediction.shape
        True

    """
    where = truth.path if isinstance(truth, MaskSource) else truth
    first = (
        truth.read(foreground=foreground) if isinstance(truth, MaskSource) else read_mask(truth, foreground=foreground)
    )
    second = read_mask(prediction, foreground=foreground)
    first, second = uncrop(first, where, second), uncrop(second, prediction, first)
    check_same_grid(first, where, second, prediction)
    return first, second


def uncrop(label_map: LabelMap, path: Path, grid: Image | LabelMap) -> LabelMap:
    """Put the label map of a file that may be cropped (``.seg.nrrd``) on ``grid``, filled with background.

    3D Slicer writes only the bounding box of the segments, and its position in the header. Label maps of other files,
    and of grids that are not shifted from ``grid`` by whole voxels, are returned unchanged; `check_same_grid` then
    reports the difference. Raises `InputError` for segments that extend beyond the image.
    """
    known = find_format(path)
    if known is None or not known.reader.may_be_cropped(path) or len(label_map.shape) != len(grid.shape):
        return label_map
    if label_map.shape == grid.shape and label_map.geometry.matches(grid.geometry):
        return label_map
    to_grid = np.linalg.inv(grid.geometry.affine) @ label_map.geometry.affine
    offset = np.rint(to_grid[:-1, -1]).astype(int)
    steps = np.abs(to_grid[:-1, :-1] - np.eye(len(offset))).max() * max(label_map.shape)
    if steps > _NEAR_WHOLE or np.abs(to_grid[:-1, -1] - offset).max() > _NEAR_WHOLE:
        return label_map
    whole = np.zeros(grid.shape, label_map.pixels.dtype)
    ends = np.minimum(offset + label_map.shape, grid.shape)
    starts = np.minimum(np.maximum(offset, 0), ends)
    inside = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    part = label_map.pixels[
        tuple(slice(start - first, end - first) for start, end, first in zip(starts, ends, offset, strict=True))
    ]
    if (lost := np.count_nonzero(label_map.pixels) - np.count_nonzero(part)) > 0:
        raise InputError(
            f"{path} has {lost} voxels of segments outside of its image; export it with that image as its reference"
        )
    whole[inside] = part
    return replace(label_map, pixels=whole, geometry=grid.geometry)
