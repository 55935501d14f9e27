"""The metrics of one case: a truth and a prediction, class by class."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError
from deconvseg.evaluation.metrics import MaskPair, check_grids, check_tolerance, grid_diagonal

Labels = npt.NDArray[Any]
ClassMetrics = dict[str, float | int | str]
Box = tuple[slice, ...]


def evaluate_masks(
    truth: Labels,
    prediction: Labels,
    labels: Mapping[int, str],
    *,
    spacing: Sequence[float],
    tolerance: float = 1.0,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> dict[int, ClassMetrics]:
    """Return the metrics of every label value: a truth and a prediction of integers (*S), 2D or 3D.

    Each entry has ``name``, ``status`` ("ok", "both empty", "missed", "spurious"), ``dsc``, ``iou``,
    ``hd95``, ``nsd``, ``volume_truth``, ``volume_prediction``, ``volume_difference`` (prediction minus
    truth), and the voxel counts ``tp``, ``fp``, ``fn``, ``tn``, ``n_truth``, ``n_prediction``. Distances and
    ``tolerance`` are in the unit of ``spacing``, volumes in its cube (2D: areas, its square). Voxels of
    ``ignored`` (*S) are background in both and not counted. Raises :class:`InputError` for arrays that are
    not integers or not on one grid.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    shape = check_grids(truth, prediction, spacing)
    check_tolerance(tolerance)
    for array, role in ((truth, "truth"), (prediction, "prediction")):
        if array.dtype.kind not in "biu":
            raise InputError(
                f"the {role} must hold integer labels, but it is {array.dtype}; threshold or round it first"
            )
    voxels = truth.size
    if ignored is not None:
        truth, prediction = np.where(ignored, 0, truth), np.where(ignored, 0, prediction)
        voxels -= int(np.count_nonzero(ignored))
    values = sorted(value for value in labels if value != 0)
    truth_boxes, prediction_boxes = _boxes(truth, values), _boxes(prediction, values)
    steps, diagonal = tuple(map(float, spacing)), grid_diagonal(shape, spacing)
    results = {}
    for value in values:
        box = _union(truth_boxes.get(value), prediction_boxes.get(value), truth.ndim)
        pair = MaskPair(truth[box] == value, prediction[box] == value, steps, diagonal)
        results[value] = _describe(pair, labels[value], voxels, tolerance)
    return results


def both_empty(name: str, voxels: int) -> ClassMetrics:
    """Return the metrics of a class that neither mask of a case has."""
    nothing = np.zeros((0, 0), bool)
    return _describe(MaskPair(nothing, nothing, (1.0, 1.0), 0.0), name, voxels, 0.0)


def _describe(pair: MaskPair, name: str, voxels: int, tolerance: float) -> ClassMetrics:
    n_truth, n_prediction, both = pair.counts
    volume = float(np.prod(pair.spacing))
    return {
        "name": name,
        "status": pair.status,
        "dsc": pair.dice(),
        "iou": pair.iou(),
        "hd95": pair.hausdorff95(),
        "nsd": pair.normalized_surface_dice(tolerance),
        "volume_truth": n_truth * volume,
        "volume_prediction": n_prediction * volume,
        "volume_difference": (n_prediction - n_truth) * volume,
        "tp": both,
        "fp": n_prediction - both,
        "fn": n_truth - both,
        "tn": voxels - n_truth - n_prediction + both,
        "n_truth": n_truth,
        "n_prediction": n_prediction,
    }


def _boxes(pixels: Labels, values: Sequence[int]) -> dict[int, Box]:
    """Return the bounding box of every value that occurs, in one pass over the volume."""
    from scipy.ndimage import find_objects

    if pixels.size == 0 or not values:
        return {}
    if pixels.dtype == np.bool_:
        pixels = pixels.view(np.uint8)
    # Positions in the sorted values, from 1: find_objects wants small positive integers.
    ordered = np.asarray(values)
    places = np.minimum(np.searchsorted(ordered, pixels), len(ordered) - 1)
    ids = np.where(ordered[places] == pixels, places + 1, 0)
    return {value: box for value, box in zip(values, find_objects(ids, len(values)), strict=True) if box is not None}


def _union(first: Box | None, second: Box | None, dims: int) -> Box:
    boxes: Iterable[Box] = [box for box in (first, second) if box is not None]
    if not boxes:
        return (slice(0, 0),) * dims
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*boxes, strict=True)
    )
