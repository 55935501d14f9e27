"""Channels of one image on grids of their own, brought onto the grid of the first."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform

from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Floats, Image
from deconvseg.errors import InputError

# Places along each axis at which the overlap of two grids is counted.
_PLACES = 24


def same_grid(first: Image, second: Image) -> bool:
    """Return whether two images have the same shape and geometry (see `Geometry.matches`)."""
    return first.shape == second.shape and first.geometry.matches(second.geometry)


def resample_onto(image: Image, shape: tuple[int, ...], geometry: Geometry) -> tuple[Image, float]:
    """Return a volume on another grid of the same world, and the share of that grid that it covers.

    Voxels are interpolated linearly; those outside the volume get its smallest intensity. Raises `InputError` for 2D
    images and for volumes that do not overlap.
    """
    if len(shape) != 3 or len(image.shape) != 3:
        raise InputError("pictures have no place by which they could be brought onto one grid; give them in one size")
    to_ours = np.linalg.inv(image.geometry.affine) @ geometry.affine
    covered = _covered(to_ours, shape, image.shape)
    if not covered:
        raise InputError("its volume does not overlap with that of the first channel; give registered series")
    pixels: Floats = np.empty((image.channels, *shape), np.float32)
    for channel, made in zip(image.pixels, pixels, strict=True):
        low = float(channel.min())
        affine_transform(channel, to_ours[:3, :3], to_ours[:3, 3], shape, made, order=1, cval=low)
    return Image(pixels, geometry), covered


def _covered(to_ours: np.ndarray, shape: tuple[int, ...], ours: tuple[int, ...]) -> float:
    """Return the share of a grid's voxels that lie in a volume of the shape ``ours``."""
    axes = [np.linspace(0, size - 1, min(size, _PLACES)) for size in shape]
    places = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones([len(axis) for axis in axes])]).reshape(4, -1)
    found = (to_ours @ places)[:3].T
    return float(((found >= -0.5) & (found <= np.array(ours) - 0.5)).all(1).mean())
