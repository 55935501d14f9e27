"""Surfaces of boolean masks: their voxels, their elements with areas, and the distances between two."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def boundary_voxels(mask: Mask) -> Mask:
    """Return the voxels of ``mask`` (*S) with a face on its outside; beyond the array is outside."""
    from scipy.ndimage import binary_erosion

    eroded: Mask = binary_erosion(mask)
    return mask & ~eroded


def surface_elements(mask: Mask, spacing: Sequence[float]) -> tuple[Mask, Floats]:
    """Return where the surface of ``mask`` (*S) lies among the voxels' corners (*S + 1), and its area there.

    The area (3D) or length (2D) is that of the marching-cubes patch between the 8 (4) voxels around the
    corner.
    """
    weights, areas = _area_table(tuple(float(length) for length in spacing))
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for corner in product((0, 1), repeat=mask.ndim):
        codes += (
            np.uint8(weights[corner]) * padded[tuple(slice(c, c + n) for c, n in zip(corner, codes.shape, strict=True))]
        )
    on_surface = (codes != 0) & (codes != len(areas) - 1)
    return on_surface, areas[codes[on_surface]]


def distances_to(points: Mask, targets: Mask, spacing: Sequence[float], limit: float = np.inf) -> Floats:
    """Return the Euclidean distance from every point of ``points`` to the nearest of ``targets``, both (*S).

    The order is that of ``points[points]``; a distance beyond ``limit`` is infinite.
    """
    from scipy.spatial import KDTree

    distances = np.where(targets[points], 0.0, np.inf)
    apart = np.isinf(distances)
    query, goal = np.argwhere(points & ~targets), np.argwhere(targets)
    if len(query) == 0 or len(goal) == 0:
        return distances
    # A tree of the surface's own voxels: ten times faster than a distance transform of the box around it.
    tree = KDTree(goal * np.asarray(spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
    reach = np.inf if np.isinf(limit) else limit * (1 + 1e-6)
    nearest = np.asarray(tree.query(query * np.asarray(spacing), distance_upper_bound=reach)[1])
    found = nearest < len(goal)
    # From integer steps, so that a distance does not depend on where in the volume it lies.
    steps = (query[found] - goal[nearest[found]]) * np.asarray(spacing)
    reached = np.full(len(query), np.inf)
    reached[found] = np.sqrt((steps * steps).sum(axis=1))
    reached[reached > limit] = np.inf
    distances[apart] = reached
    return distances


@lru_cache(maxsize=64)
def _area_table(spacing: tuple[float, ...]) -> tuple[npt.NDArray[Any], Floats]:
    from monai.metrics.utils import get_code_to_measure_table

    areas, kernel = get_code_to_measure_table(spacing)
    return kernel[0, 0].numpy(), areas.numpy().astype(np.float64)
