"""Interpolation on another grid: linear or cubic, and by nearest neighbour along an axis of thick slices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from deconvseg.data.types import Image

Interpolation: TypeAlias = Literal["linear", "cubic"]

# Spacings are stored in single precision.
_EQUAL = 1e-5


class Resampling(BaseModel):
    """How images are interpolated on another grid over the same volume.

    ``interpolation`` is linear, or cubic: an interpolating B-spline of order 3 over edges that continue with their last
    value, clipped to the range of the image. With ``thick_slices``, if the largest distance between voxels of the image
    (or else of the grid) is more than that many times the smallest, and one axis alone has it, voxels along this axis
    are taken from their nearest neighbour, and each slice is interpolated, and clipped, by itself.

    Example:
        >>> from deconvseg.data import Resampling
        >>> Resampling(interpolation="cubic", thick_slices=3).slice_axis((0.5, 0.5, 5.0), (1.0, 1.0, 2.0))
        2
        >>> Resampling(interpolation="cubic", thick_slices=3).slice_axis((1.0, 1.0, 2.0), (1.0, 1.0, 1.0)) is None
        True

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    interpolation: Interpolation = "linear"
    thick_slices: Annotated[float, Field(ge=1)] | None = None

    def slice_axis(self, old: Sequence[float], new: Sequence[float]) -> int | None:
        """Return the axis of thick slices between two spacings (mm); None if all axes are interpolated alike."""
        if self.thick_slices is None:
            return None
        for spacing in (np.asarray(old, np.float64), np.asarray(new, np.float64)):
            if spacing.max() > spacing.min() * self.thick_slices * (1 + _EQUAL):
                largest = np.flatnonzero(spacing >= spacing.max() * (1 - _EQUAL))
                return int(largest[0]) if len(largest) == 1 else None
        return None

    def image(self, image: Image, shape: tuple[int, ...], spacing: Sequence[float]) -> Image:
        """Return the image on ``shape`` voxels over the same volume; ``spacing`` (mm) is that of the new grid."""
        slices = self.slice_axis(image.geometry.spacing, spacing)
        if self.interpolation == "linear" and slices is None:
            return image.resampled(shape)
        geometry = image.geometry.resampled(image.shape, shape)
        if shape == image.shape:
            return Image(image.pixels, geometry)
        order: Literal[1, 3] = 3 if self.interpolation == "cubic" else 1
        return Image(np.stack([_resample(channel, shape, order, slices) for channel in image.pixels]), geometry)


LINEAR = Resampling()


def nearest_voxels(old: int, new: int) -> NDArray[np.int64]:
    """Return the voxel of an axis of ``old`` voxels that is nearest to each of ``new`` over the same length.

    Example:
        >>> from deconvseg.data import nearest_voxels
        >>> nearest_voxels(4, 2).tolist()
        [1, 3]

    """
    centres = old / new * (np.arange(new) + 0.5) - 0.5
    voxels: NDArray[np.int64] = np.clip(np.floor(centres + 0.5), 0, old - 1).astype(np.int64)
    return voxels


def _resample(
    pixels: NDArray[np.float32], shape: tuple[int, ...], order: Literal[1, 3], slices: int | None
) -> NDArray[np.float32]:
    """Interpolate a channel (*S) axis by axis; ``slices`` is taken from the nearest neighbours."""
    others = tuple(axis for axis in range(pixels.ndim) if axis != slices)
    # An axis that shrinks comes first, which leaves less to do for the others.
    result = pixels
    for axis in sorted(others, key=lambda axis: shape[axis] / pixels.shape[axis]):
        if shape[axis] != pixels.shape[axis]:
            result = _along(result, axis, _matrix(pixels.shape[axis], shape[axis], order))
    if order > 1:
        bounds = (pixels.min(others, keepdims=True), pixels.max(others, keepdims=True))
        result = np.clip(result, *bounds)
    if slices is not None and shape[slices] != pixels.shape[slices]:
        result = result.take(nearest_voxels(pixels.shape[slices], shape[slices]), axis=slices)
    return np.ascontiguousarray(result, np.float32)


def _along(pixels: NDArray[np.float32], axis: int, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply the vectors along an axis by a matrix (new, old)."""
    before, after = pixels.shape[:axis], pixels.shape[axis + 1 :]
    product: NDArray[np.float32]
    if after:
        stacked = np.ascontiguousarray(pixels).reshape(int(np.prod(before)), pixels.shape[axis], int(np.prod(after)))
        product = np.matmul(matrix, stacked)
    else:
        product = np.matmul(pixels, matrix.T)
    return product.reshape(*before, len(matrix), *after)


@lru_cache(maxsize=16)
def _matrix(old: int, new: int, order: Literal[1, 3]) -> NDArray[np.float32]:
    """Return the matrix (new, old) that interpolates along one axis: the images of the unit vectors."""
    from scipy.ndimage import zoom

    units: NDArray[np.float64] = np.eye(old)
    images: NDArray[np.float64] = zoom(units, (1.0, 1 / (old / new)), order=order, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(images.T, np.float32)
