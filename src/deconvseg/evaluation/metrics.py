"""Overlap and distance between two masks, defined for empty ones too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deconvseg.data import bounding_box
from deconvseg.errors import InputError
from deconvseg.evaluation.surfaces import boundary_voxels, distances_to, surface_elements

Mask = npt.NDArray[np.bool_]
Status = Literal["ok", "both empty", "missed", "spurious"]

# Spacings come from headers in single precision, and from matrices of turned axes: a distance of exactly the tolerance
# may come out larger by some 1e-7 of it. A ten-thousandth is far above that and far below what any scanner resolves.
TOLERANCE_SLACK = 1e-4

POLICY: Mapping[str, str] = MappingProxyType(
    {
        "both empty": "DSC 1, HD95 0, NSD 1",
        "missed": "the truth is there, the prediction is empty: DSC 0, HD95 the diagonal of the image, NSD 0",
        "spurious": "the truth is empty, the prediction is not: DSC 0, HD95 the diagonal of the image, NSD 0",
    }
)


@dataclass(frozen=True)
class MaskPair:
    """Two masks cropped to the box of their union, and the whole image's diagonal in the unit of ``spacing``."""

    truth: Mask
    prediction: Mask
    spacing: tuple[float, ...]
    diagonal: float

    @cached_property
    def status(self) -> Status:
        """Which of the two is empty."""
        truth, prediction = bool(self.truth.any()), bool(self.prediction.any())
        if truth and prediction:
            return "ok"
        return "missed" if truth else "spurious" if prediction else "both empty"

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """Voxels of the truth, of the prediction and of both."""
        masks = self.truth, self.prediction, self.truth & self.prediction
        return tuple(int(np.count_nonzero(mask)) for mask in masks)  # type: ignore[return-value]

    def dice(self) -> float:
        """Dice similarity coefficient, 2|A ∩ B| / (|A| + |B|)."""
        truth, prediction, both = self.counts
        return 1.0 if self.status == "both empty" else 2.0 * both / (truth + prediction)

    def iou(self) -> float:
        """Jaccard index, |A ∩ B| / |A ∪ B|."""
        truth, prediction, both = self.counts
        return 1.0 if self.status == "both empty" else both / (truth + prediction - both)

    def hausdorff95(self) -> float:
        """The larger of the two 95th percentiles of the distances between the boundaries."""
        if self.status != "ok":
            return 0.0 if self.status == "both empty" else self.diagonal
        edges = boundary_voxels(self.truth), boundary_voxels(self.prediction)
        there = distances_to(edges[0], edges[1], self.spacing)
        back = distances_to(edges[1], edges[0], self.spacing)
        return max(_percentile95(there), _percentile95(back))

    def normalized_surface_dice(self, tolerance: float) -> float:
        """The share of both surfaces that lies within ``tolerance`` (and its `TOLERANCE_SLACK`) of the other one."""
        if self.status != "ok":
            return 1.0 if self.status == "both empty" else 0.0
        reach = tolerance * (1 + TOLERANCE_SLACK)
        (truth, truth_area), (prediction, prediction_area) = (
            surface_elements(mask, self.spacing) for mask in (self.truth, self.prediction)
        )
        near = truth_area[distances_to(truth, prediction, self.spacing, reach) <= reach].sum()
        near += prediction_area[distances_to(prediction, truth, self.spacing, reach) <= reach].sum()
        return float(near / (truth_area.sum() + prediction_area.sum()))


def dice(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Return the Dice similarity coefficient of two masks (*S): 1 where both are empty, 0 where one is.

    Raises :class:`InputError` for different shapes.
    """
    truth = np.asarray(truth)
    return pair_masks(truth, prediction, (1.0,) * truth.ndim).dice()


def hausdorff95(truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float]) -> float:
    """Return the 95th percentile Hausdorff distance of two masks (*S), 2D or 3D, in the unit of ``spacing``.

    ``spacing`` is per array axis. Boundary voxels are those with a face outside their mask; the value is the
    larger of the two directed percentiles, interpolated linearly, as in MONAI's
    ``compute_hausdorff_distance``. Both masks empty: 0. One empty: the diagonal of the image. A volume of a single
    slice is measured as that slice, in 2D. Raises :class:`InputError` for shapes that do not fit.
    """
    return pair_masks(truth, prediction, spacing).hausdorff95()


def normalized_surface_dice(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float], tolerance: float
) -> float:
    """Return the surface Dice of two masks (*S), 2D or 3D, at a tolerance in the unit of ``spacing``.

    The share of both surfaces, by area, that lies within ``tolerance`` of the other (Nikolov et al., arXiv
    1809.04430), as in the surface-distance package; a distance counts as within it up to a ten-thousandth more, so that
    rounding of the spacing decides nothing. Both masks empty: 1. One empty: 0. A volume of a single slice is measured
    as that slice, in 2D. Raises :class:`InputError` for shapes that do not fit or a negative tolerance.
    """
    return pair_masks(truth, prediction, spacing).normalized_surface_dice(check_tolerance(tolerance))


def pair_masks(truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float]) -> MaskPair:
    """Check two masks (*S) and crop them to the box of their union."""
    masks = np.asarray(truth).astype(bool, copy=False), np.asarray(prediction).astype(bool, copy=False)
    axis = single_slice_axis(check_grids(*masks, spacing), spacing)
    if axis is not None:
        masks = masks[0].squeeze(axis), masks[1].squeeze(axis)
        spacing = [length for place, length in enumerate(spacing) if place != axis]
    box = bounding_box(masks[0] | masks[1]) or (slice(0, 0),) * masks[0].ndim
    return MaskPair(masks[0][box], masks[1][box], tuple(map(float, spacing)), grid_diagonal(masks[0].shape, spacing))


def single_slice_axis(shape: Sequence[int], spacing: Sequence[float]) -> int | None:
    """Return the axis along which a volume has a single voxel, the thickest of several; None for other arrays.

    Every voxel of a single slice would be on the boundary in 3D, and masks in it could hardly differ in distance.
    """
    flat = [axis for axis, n in enumerate(shape) if n == 1] if len(shape) == 3 else []
    return max(flat, key=lambda axis: spacing[axis], default=None)


def check_grids(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], spacing: Sequence[float]) -> tuple[int, ...]:
    """Return the common shape of two 2D or 3D arrays whose spacing has a positive entry per axis."""
    if truth.shape != prediction.shape:
        raise InputError(
            f"the truth has the shape {truth.shape}, the prediction {prediction.shape}: one grid is needed"
        )
    if truth.ndim not in (2, 3):
        raise InputError(f"masks are 2D or 3D, but these have the shape {truth.shape}")
    if len(spacing) != truth.ndim or not all(0 < length < float("inf") for length in spacing):
        raise InputError(f"spacing needs {truth.ndim} positive numbers, one per axis, but it is {tuple(spacing)}")
    return truth.shape


def check_tolerance(tolerance: float) -> float:
    """Return the tolerance, a distance of at least 0."""
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"the surface tolerance must be a distance of 0 or more, but it is {tolerance}")
    return tolerance


def grid_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the length of the image from corner to corner, outer edges included."""
    return float(np.sqrt(sum((n * length) ** 2 for n, length in zip(shape, spacing, strict=True))))


def _percentile95(distances: npt.NDArray[np.float64]) -> float:
    # MONAI's rank has single precision; another rounding would differ from it in the sixth digit.
    rank = float(np.float32(0.95) * np.float32(len(distances) - 1))
    below = int(rank)
    above = min(below + 1, len(distances) - 1)
    ordered = np.partition(distances, (below, above))
    return float(ordered[below] + (rank - below) * (ordered[above] - ordered[below]))
