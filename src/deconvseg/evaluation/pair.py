"""Two masks of one class and case on one grid, with quantities that several metrics share, computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deconvseg.data import bounding_box
from deconvseg.errors import InputError
from deconvseg.evaluation.lesions import Detection, LesionRule, detect_lesions
from deconvseg.evaluation.surfaces import Floats, boundary_voxels, distances_to

Mask = npt.NDArray[np.bool_]
Status = Literal["ok", "both empty", "missed", "spurious"]


@dataclass(frozen=True)
class MaskPair:
    """Two masks (*S), 2D or 3D, cropped to the bounding box of their union, with all inputs of metrics.

    ``spacing`` has an entry per axis of the masks (two for a single slice). ``diagonal`` is the length of the whole
    image from corner to corner, in the unit of ``spacing``. ``voxels`` is the number of voxels of the image that are
    not ignored, and ``voxel_size`` the volume of a voxel (2D: area), in the cube (square) of the unit. ``tolerance`` is
    a distance in the unit, and ``lesions`` is the criterion for found lesions.

    Example:
        >>> import numpy as np
        >>> from deconvseg.evaluation import MaskPair, list_metrics
        >>> truth = np.array([[True, True, False]])
        >>> pair = MaskPair(truth, ~truth, spacing=(1.0, 1.0), diagonal=3.2, voxels=3, voxel_size=1.0)
        >>> by_key = {metric.key: metric for metric in list_metrics()}
        >>> by_key["dsc"].function(pair)
        0.0

    """

    truth: Mask
    prediction: Mask
    spacing: tuple[float, ...]
    diagonal: float
    voxels: int
    voxel_size: float
    tolerance: float = 1.0
    lesions: LesionRule = field(default_factory=LesionRule)

    @cached_property
    def status(self) -> Status:
        """Whether one or both masks are empty."""
        truth, prediction = bool(self.truth.any()), bool(self.prediction.any())
        if truth and prediction:
            return "ok"
        return "missed" if truth else "spurious" if prediction else "both empty"

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of voxels of the truth, of the prediction and of their intersection."""
        masks = self.truth, self.prediction, self.truth & self.prediction
        return tuple(int(np.count_nonzero(mask)) for mask in masks)  # type: ignore[return-value]

    @cached_property
    def boundary_distances(self) -> tuple[Floats, Floats]:
        """Distances from each boundary voxel of the truth to the prediction's boundary, and vice versa."""
        truth, prediction = boundary_voxels(self.truth), boundary_voxels(self.prediction)
        return distances_to(truth, prediction, self.spacing), distances_to(prediction, truth, self.spacing)

    @cached_property
    def detection(self) -> Detection:
        """Numbers of found and missed components of the truth, and of false components of the prediction."""
        return detect_lesions(self.truth, self.prediction, self.voxel_size, self.lesions)


def pair_masks(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    spacing: Sequence[float],
    *,
    tolerance: float = 1.0,
    lesions: LesionRule | None = None,
) -> MaskPair:
    """Check two masks (*S), 2D or 3D, and crop them to the box of their union; a single slice becomes 2D.

    Raises :class:`InputError` for shapes that do not fit, a spacing that is not positive or a negative tolerance.
    """
    masks = np.asarray(truth).astype(bool, copy=False), np.asarray(prediction).astype(bool, copy=False)
    axis = single_slice_axis(check_grids(*masks, spacing), spacing)
    voxel_size = float(np.prod(spacing))
    if axis is not None:
        masks = masks[0].squeeze(axis), masks[1].squeeze(axis)
        spacing = [length for place, length in enumerate(spacing) if place != axis]
    box = bounding_box(masks[0] | masks[1]) or (slice(0, 0),) * masks[0].ndim
    return MaskPair(
        masks[0][box],
        masks[1][box],
        tuple(map(float, spacing)),
        grid_diagonal(masks[0].shape, spacing),
        masks[0].size,
        voxel_size,
        check_tolerance(tolerance),
        lesions or LesionRule(),
    )


def single_slice_axis(shape: Sequence[int], spacing: Sequence[float]) -> int | None:
    """Return the axis along which a volume has a single voxel (the thickest if several); None for other arrays.

    In 3D every voxel of a single slice would be a boundary voxel, so that surface distances would be meaningless.
    """
    flat = [axis for axis, n in enumerate(shape) if n == 1] if len(shape) == 3 else []
    return max(flat, key=lambda axis: spacing[axis], default=None)


def check_grids(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], spacing: Sequence[float]) -> tuple[int, ...]:
    """Check two 2D or 3D arrays and their spacing (one positive number per axis); return the common shape."""
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
    """Return the tolerance after a check that it is a distance of at least 0."""
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"the surface tolerance must be a distance of 0 or more, but it is {tolerance}")
    return tolerance


def grid_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the length of the image from corner to corner, outer edges included."""
    return float(np.sqrt(sum((n * length) ** 2 for n, length in zip(shape, spacing, strict=True))))
