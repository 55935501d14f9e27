"""ITK's world and ours: left-posterior-superior to right-anterior-superior, (x, y) to (row, column)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.geometry import Geometry


def other_world(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From ITK's world to ours, or back: LPS ↔ RAS in 3D; in 2D (x, y) ↔ (row, column), of the array too."""
    if len(affine) == 4:
        flipped: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        return flipped
    swap = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    swapped: npt.NDArray[np.float64] = swap @ affine @ swap
    return swapped


def itk_axes(geometry: Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The steps of the file's axes, as columns, and the first voxel's place, in ITK's world."""
    affine = other_world(geometry.affine)
    return affine[:-1, :-1], affine[:-1, -1]


def itk_size(pixels: npt.NDArray[Any]) -> tuple[int, ...]:
    """The sizes of an array's axes, the fastest in a file first."""
    return pixels.shape if pixels.ndim == 3 else pixels.shape[::-1]


def itk_bytes(pixels: npt.NDArray[Any]) -> bytes:
    """The numbers of an array in the order of a file, the lowest byte first."""
    little = pixels if sys.byteorder == "little" else pixels.astype(pixels.dtype.newbyteorder("<"))
    return little.tobytes(order="F" if pixels.ndim == 3 else "C")


def join_numbers(values: npt.NDArray[np.float64], separator: str = " ") -> str:
    """Numbers in text that gives them back exactly."""
    return separator.join(f"{value:.17g}" for value in values)
