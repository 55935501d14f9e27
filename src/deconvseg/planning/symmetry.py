"""Mirror symmetry of a dataset: only along symmetric axes are mirrored patches realistic."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# A coarse grid and a sample of its voxels suffice to locate a class.
_CELLS = 8
_SAMPLES = 5_000


def occupancy(
    mask: NDArray[np.bool_], start: Sequence[int], shape: Sequence[int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the location of a class in a case: its share in each of 8 cells along every axis.

    ``mask`` is the part at ``start`` of a case with ``shape``; it must contain a voxel of the class.
    """
    inside = np.flatnonzero(mask)
    if len(inside) > _SAMPLES:
        inside = inside[rng.integers(len(inside), size=_SAMPLES)]
    places = np.stack(np.unravel_index(inside, mask.shape), axis=1) + start
    cells = (places + 0.5) / shape
    counts, _ = np.histogramdd(cells, bins=[_CELLS] * mask.ndim, range=[(0, 1)] * mask.ndim)
    return (counts / len(inside)).astype(np.float32)


def asymmetry(cases: Sequence[Mapping[int, NDArray[np.float32]]]) -> tuple[float, ...]:
    """Return for every axis the share of cases that are nearer to the mean of the others than their mirror images are.

    It is about 0.5 for a symmetric dataset and 1 if every case is asymmetric. ``cases`` map their classes to
    occupancies. The result is empty if no class occurs in two cases.
    """
    sums: dict[int, NDArray[np.float32]] = {}
    counts: dict[int, int] = {}
    for case in cases:
        for value, cells in case.items():
            sums[value] = sums[value] + cells if value in sums else cells
            counts[value] = counts.get(value, 0) + 1
    nearer: list[list[float]] = []
    for case in cases:
        shared = [value for value in case if counts[value] > 1]
        if not shared:
            continue
        cells = np.stack([case[value] for value in shared])
        others = np.stack([(sums[value] - case[value]) / (counts[value] - 1) for value in shared])
        axes = range(1, cells.ndim)
        distance = np.abs(cells - others).sum()
        mirrored = [np.abs(np.flip(cells, axis) - others).sum() for axis in axes]
        nearer.append([0.5 + 0.5 * float(np.sign(round(float(far - distance), 5))) for far in mirrored])
    return tuple(round(float(share), 4) for share in np.mean(nearer, axis=0)) if nearer else ()
