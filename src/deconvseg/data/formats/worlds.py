"""Conversion between ITK's world (left-posterior-superior, x-y) and ours (right-anterior-superior, row-column)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.geometry import Geometry


def other_world(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert between ITK's world and ours, in either direction: LPS ↔ RAS in 3D, (x, y) ↔ (row, column) in 2D."""
    if len(affine) == 4:
        flipped: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        return flipped
    swap = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    swapped: npt.NDArray[np.float64] = swap @ affine @ swap
    return swapped


def itk_axes(geometry: Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the steps along the axes of the file, as columns, and the position of the first voxel, in ITK's world."""
    affine = other_world(geometry.affine)
    return affine[:-1, :-1], affine[:-1, -1]


def itk_size(pixels: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return the axis sizes of an array, the fastest axis of the file first."""
    return pixels.shape if pixels.ndim == 3 else pixels.shape[::-1]


def itk_bytes(pixels: npt.NDArray[Any]) -> bytes:
    """Return the numbers of an array in file order, little-endian."""
    little = pixels if sys.byteorder == "little" else pixels.astype(pixels.dtype.newbyteorder("<"))
    return little.tobytes(order="F" if pixels.ndim == 3 else "C")


def join_numbers(values: npt.NDArray[np.float64], separator: str = " ") -> str:
    """Format numbers as text from which they can be parsed exactly."""
    return separator.join(f"{value:.17g}" for value in values)
