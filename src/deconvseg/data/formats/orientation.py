"""EXIF's orientation: how the rows and columns that a file stores are shown."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

ORIENTATION_TAG = 274


def defined(orientation: int) -> int:
    """The orientation, or 1 (shown as it is stored) for a number that EXIF does not define."""
    return orientation if 1 <= orientation <= 8 else 1


def as_shown(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of (rows, columns, …) as it is shown; orientations that EXIF does not define change nothing."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    return pixels[::-1] if orientation == 8 else pixels


def shape_as_shown(shape: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    """The shape (rows, columns) as it is shown."""
    return shape[::-1] if orientation in (5, 6, 7, 8) else shape
