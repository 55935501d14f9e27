"""The choice of the most informative slice and channel of a case."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]
Plane = Literal["axial", "coronal", "sagittal"]

# The axis (of x, y, z) that is normal to each plane.
PLANES: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
# The width of the surroundings of the truth, in voxels.
_REACH = 3
PERCENTILES = (0.5, 99.5)


def wrongest_slice(truth: Labels, prediction: Labels, plane: Plane = "axial") -> int:
    """Return the slice of two masks (X, Y, Z) with the most voxels that differ; ties go to the most foreground.

    If the masks do not differ, it is the :func:`busiest_slice`.
    """
    others = _others(plane)
    wrong = np.count_nonzero(truth != prediction, axis=others)
    if not wrong.any():
        return busiest_slice(truth, prediction, plane)
    foreground = np.count_nonzero((truth != 0) | (prediction != 0), axis=others)
    return int(np.lexsort((-foreground, -wrong))[0])


def busiest_slice(truth: Labels, prediction: Labels, plane: Plane = "axial") -> int:
    """Return the slice with the largest sum of the shares of all classes; the middle slice if there are none.

    The share of a class is relative to its voxels in truth or prediction, so that small classes count as much.
    """
    shares = np.zeros(truth.shape[PLANES[plane]])
    for value in np.union1d(np.unique(truth), np.unique(prediction)):
        if value != 0:
            counts = np.count_nonzero((truth == value) | (prediction == value), axis=_others(plane))
            shares += counts / counts.sum()
    return int(shares.argmax()) if shares.any() else len(shares) // 2


def clearest_channel(image: npt.NDArray[Any], mask: Labels) -> int:
    """Return the channel of an image (C, *S) with the most contrast between a mask (*S) and its surroundings, or 0.

    The contrast is that of the grey values as they are shown, from their 0.5th to their 99.5th percentile: the
    difference of the means in the foreground and in the three voxels around it, over their pooled standard deviation.
    """
    inside, around = _regions(mask != 0)
    if len(image) == 1 or not (inside.any() and around.any()):
        return 0
    box = _box(inside | around)
    inside, around = inside[box], around[box]
    contrasts = [contrast(channel[box], inside, around, np.percentile(channel, PERCENTILES)) for channel in image]
    return int(np.argmax(contrasts))


def contrast(
    channel: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
    around: npt.NDArray[np.bool_],
    window: Sequence[float] | npt.NDArray[np.float64],
) -> float:
    """Return the contrast-to-noise ratio between two regions of a channel (*S), cut to a ``window`` of grey values."""
    first, second = (np.clip(channel[where].astype(np.float64), *window) for where in (inside, around))
    difference = abs(first.mean() - second.mean())
    noise = float(np.sqrt((first.var() + second.var()) / 2))
    if difference == 0:
        return 0.0
    # Two uniform areas without noise have infinite contrast.
    return float(difference / noise) if noise > 0 else float("inf")


def _regions(foreground: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the foreground and its surroundings."""
    from scipy.ndimage import binary_dilation

    around = np.zeros_like(foreground)
    if foreground.any():
        box = _box(foreground, _REACH)
        cube = np.ones((3,) * foreground.ndim, bool)
        around[box] = binary_dilation(foreground[box], cube, iterations=_REACH) & ~foreground[box]
    return foreground, around


def _box(where: npt.NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...]:
    from scipy.ndimage import find_objects

    (found,) = find_objects(where.view(np.uint8))
    return tuple(slice(max(part.start - margin, 0), part.stop + margin) for part in found)


def _others(plane: Plane) -> tuple[int, ...]:
    return tuple(axis for axis in range(3) if axis != PLANES[plane])
