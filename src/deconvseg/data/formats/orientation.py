"""EXIF orientation: from the stored rows and columns to the displayed picture."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

ORIENTATION_TAG = 274


def defined(orientation: int) -> int:
    """Return the orientation, or 1 (displayed as stored) for a number that EXIF does not define."""
    return orientation if 1 <= orientation <= 8 else 1


def as_shown(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a view of (rows, columns, …) as displayed; undefined orientations change nothing."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    return pixels[::-1] if orientation == 8 else pixels


def shape_as_shown(shape: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    """Return the shape (rows, columns) as displayed."""
    return shape[::-1] if orientation in (5, 6, 7, 8) else shape
