"""Surfaces of boolean masks: boundary voxels, surface elements with areas, and distances between surfaces."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def boundary_voxels(mask: Mask) -> Mask:
    """Return the voxels of ``mask`` (*S) with a face to the outside; positions beyond the array are outside."""
    from scipy.ndimage import binary_erosion

    eroded: Mask = binary_erosion(mask)
    return mask & ~eroded


def surface_elements(mask: Mask, spacing: Sequence[float]) -> tuple[Mask, Floats]:
    """Return the voxel corners (*S + 1) on the surface of ``mask`` (*S), and the surface area at each.

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

    Distances are in the order of ``points[points]``; those beyond ``limit`` are infinite.
    """
    from scipy.spatial import KDTree

    distances = np.where(targets[points], 0.0, np.inf)
    apart = np.isinf(distances)
    query, goal = np.argwhere(points & ~targets), np.argwhere(targets)
    if len(query) == 0 or len(goal) == 0:
        return distances
    # A k-d tree of the surface voxels is ten times faster than a distance transform of the bounding box.
    tree = KDTree(goal * np.asarray(spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
    reach = np.inf if np.isinf(limit) else limit * (1 + 1e-6)
    nearest = np.asarray(tree.query(query * np.asarray(spacing), distance_upper_bound=reach)[1])
    found = nearest < len(goal)
    # Computed from integer steps, so that a distance does not depend on its position in the volume.
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
