"""Types for pixel data: images, which may be interpolated, and label maps, which may not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.geometry import AxisOrder, Geometry
from deconvseg.errors import InputError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class Header:
    """The header of an image file: channels, spatial shape, bytes of each stored number.

    ``notes`` are assumptions and doubts of the reader, as sentences that follow the file's name; ``mask_notes`` matter
    only for masks. ``orientation`` is the EXIF orientation; ``shape`` is that of the displayed image. ``white`` is the
    number displayed as white, for grey images with a depth other than 1, 8 or 16 bits.
    """

    channels: int
    shape: tuple[int, ...]
    itemsize: int
    notes: tuple[str, ...] = ()
    mask_notes: tuple[str, ...] = ()
    orientation: int = 1
    white: int | None = None

    @property
    def numbers(self) -> int:
        """The number of values in the image."""
        return self.channels * math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Image:
    """Intensities (C, *S) in float32, with the geometry of their grid.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, Image
        >>> image = Image(np.zeros((2, 20, 24, 12)), Geometry(np.diag([0.5, 0.5, 3.0, 1.0])))
        >>> image.channels, image.shape, image.geometry.spacing
        (2, (20, 24, 12), (0.5, 0.5, 3.0))

    """

    pixels: Floats
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.pixels.ndim != self.geometry.spatial_dims + 1:
            raise InputError(
                f"an image {self.pixels.shape} does not fit a {self.geometry.spatial_dims}D geometry: "
                "its shape is (channels, *spatial)"
            )
        if self.pixels.dtype.kind not in "biuf":
            raise InputError(f"an image holds real numbers, but these pixels are {self.pixels.dtype}")
        object.__setattr__(self, "pixels", np.asarray(self.pixels, dtype=np.float32))

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape S."""
        return self.pixels.shape[1:]

    @property
    def channels(self) -> int:
        """The number of channels C."""
        return len(self.pixels)

    def canonical(self) -> Image:
        """Return the image with its axes in the closest canonical order (RAS in 3D)."""
        return self.reordered(self.geometry.axis_order())

    def reordered(self, order: AxisOrder) -> Image:
        """Return the image with its axes in another order."""
        return Image(order.apply(self.pixels), order.apply_geometry(self.geometry, self.shape))

    def resampled(self, new_shape: Sequence[int]) -> Image:
        """Return the image on ``new_shape`` voxels over the same volume, linearly interpolated."""
        pixels = _resample_linearly(self.pixels, tuple(new_shape))
        return Image(pixels, self.geometry.resampled(self.shape, new_shape))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels (*S) with the geometry of their grid, which are never interpolated as numbers.

    ``white`` is that of the file's :class:`Header` if it is the largest label.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, LabelMap
        >>> mask = LabelMap(np.eye(4, dtype=np.uint8), Geometry.identity(2))
        >>> int(mask.resampled((8, 8)).pixels.sum())  # four voxels of one have become sixteen
        16

    """

    pixels: Integers
    geometry: Geometry
    white: int | None = None

    def __post_init__(self) -> None:
        if not np.issubdtype(self.pixels.dtype, np.integer):
            raise InputError(f"a label map holds integers, but these pixels are {self.pixels.dtype}")
        if self.pixels.ndim != self.geometry.spatial_dims:
            raise InputError(f"a label map {self.pixels.shape} does not fit a {self.geometry.spatial_dims}D geometry")

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape S."""
        return self.pixels.shape

    def canonical(self) -> LabelMap:
        """Return the label map with its axes in the closest canonical order (RAS in 3D)."""
        return self.reordered(self.geometry.axis_order())

    def reordered(self, order: AxisOrder) -> LabelMap:
        """Return the label map with its axes in another order."""
        geometry = order.apply_geometry(self.geometry, self.shape)
        return replace(self, pixels=order.apply(self.pixels), geometry=geometry)

    def one_hot(self, values: Sequence[int]) -> Floats:
        """Return one float32 map per value (len(values), *S): 1 where the label is that value, else 0."""
        return np.stack([self.pixels == value for value in values]).astype(np.float32)

    def resampled(self, new_shape: Sequence[int]) -> LabelMap:
        """Return the label map on ``new_shape`` voxels over the same volume, by nearest neighbour."""
        indices = [
            np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
            for old, new in zip(self.shape, new_shape, strict=True)
        ]
        return LabelMap(self.pixels[np.ix_(*indices)], self.geometry.resampled(self.shape, new_shape))

    def resampled_smooth(self, new_shape: Sequence[int]) -> LabelMap:
        """Return the label map on ``new_shape`` voxels: the argmax of its linearly interpolated one-hot maps.

        Ties resolve to the smaller value. Only one map is in memory at a time, so memory does not grow with the number
        of labels.
        """
        values = np.unique(self.pixels)
        best = np.full(tuple(new_shape), -1.0, dtype=np.float32)
        labels = np.empty(tuple(new_shape), dtype=self.pixels.dtype)
        for value in values:
            probability = _resample_linearly(self.one_hot([int(value)]), tuple(new_shape))[0]
            higher = probability > best
            labels[higher] = value
            np.maximum(best, probability, out=best)
        return LabelMap(labels, self.geometry.resampled(self.shape, new_shape))


def smallest_integer_dtype(pixels: Integers) -> np.dtype[Any]:
    """Return the smallest of uint8, uint16, int32 and int64 that holds every value; `InputError` if none does."""
    low, high = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
    for candidate in (np.uint8, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    if high > np.iinfo(np.int64).max:
        raise InputError(f"the label {high} is larger than the largest that a mask can hold, {np.iinfo(np.int64).max}")
    return np.dtype(np.int64)


def _resample_linearly(pixels: Floats, new_shape: tuple[int, ...]) -> Floats:
    """Interpolate (C, *S) to (C, *new_shape) linearly, with outer edges aligned."""
    if pixels.shape[1:] == new_shape:
        return pixels
    import torch
    from torch.nn import functional as F

    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(new_shape)]
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))[None]
    resampled: Floats = F.interpolate(tensor, size=new_shape, mode=mode, align_corners=False)[0].numpy()
    return resampled
