"""Bounding boxes of masks and images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.geometry import AxisOrder
from deconvseg.data.types import Image


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Return the smallest box that contains all true voxels of a mask (\\*S), or None if the mask is empty."""
    from scipy.ndimage import find_objects

    boxes = find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None


def nonzero_box(image: Image, order: AxisOrder | None = None) -> tuple[range, ...] | None:
    """Return the smallest box, in canonical or another axis order, of the voxels that are nonzero in any channel."""
    pixels = (order or image.geometry.axis_order()).view(image.pixels)
    box = []
    for axis in range(1, pixels.ndim):
        found = np.flatnonzero(pixels.any(axis=tuple(other for other in range(pixels.ndim) if other != axis)))
        if not found.size:
            return None
        box.append(range(int(found[0]), int(found[-1]) + 1))
        # Search the next axes only inside the box found so far.
        pixels = pixels[(slice(None),) * axis + (slice(box[-1].start, box[-1].stop),)]
    return tuple(box)


def grown_box(box: tuple[range, ...], margin: int, shape: Sequence[int]) -> tuple[range, ...]:
    """Return the box grown by ``margin`` voxels at both ends of each axis, within an image of ``shape``."""
    return tuple(
        range(max(0, part.start - margin), min(size, part.stop + margin)) for part, size in zip(box, shape, strict=True)
    )
