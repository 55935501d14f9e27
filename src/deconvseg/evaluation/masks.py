"""The metrics of one case, class by class."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import bounding_box, count_values
from deconvseg.errors import InputError
from deconvseg.evaluation.measuring import ClassMetrics, Measuring
from deconvseg.evaluation.pair import MaskPair, check_grids, grid_diagonal, single_slice_axis

Labels = npt.NDArray[Any]
Box = tuple[slice, ...]
# Up to this label value, bounding boxes are found without a lookup table.
_MOST_DIRECT = 2**16


def evaluate_masks(
    truth: Labels,
    prediction: Labels,
    labels: Mapping[int, str],
    *,
    members: Mapping[int, Sequence[int]] | None = None,
    spacing: Sequence[float],
    tolerance: float | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
    metrics: str | Sequence[str] | None = None,
    empty: str = "diagonal",
    lesion_overlap: float | None = None,
    lesion_sizes: Sequence[float] | None = None,
) -> dict[int, ClassMetrics]:
    """Return the metrics of every label value for a true and a predicted mask of integers (*S), 2D or 3D.

    A class in ``members`` (a region) is the union of its label values, whatever its key. Each entry has ``name``,
    ``status`` ("ok", "both empty", "missed", "spurious"), ``dsc``, ``iou``, the other ``metrics`` (by default ``hd95``
    and ``nsd``), ``volume_truth``, ``volume_prediction``, ``volume_difference`` (prediction minus truth), and the voxel
    counts ``tp``, ``fp``, ``fn``, ``tn``, ``n_truth``, ``n_prediction``. Distances and ``tolerance`` are in the unit of
    ``spacing``, volumes in its cube (2D: areas, its square); distances in a volume of a single slice are measured in
    2D. Voxels of ``ignored`` (*S) are background in both and not counted. ``metrics``, ``empty`` and the options of
    metrics are those of :func:`~deconvseg.evaluation.evaluate`. Raises :class:`InputError` for arrays that are not
    integers or not on one grid. Classes are measured in parallel with the number of threads of PyTorch.

    Example:
        >>> import numpy as np
        >>> from deconvseg.evaluation import evaluate_masks
        >>> truth, prediction = np.zeros((2, 8, 8), dtype=int)
        >>> truth[2:6, 2:6] = 1
        >>> prediction[2:6, 2:5] = 1
        >>> found = evaluate_masks(truth, prediction, {1: "lesion"}, spacing=(1.0, 1.0))[1]
        >>> found["status"], round(found["dsc"], 3), found["fn"]
        ('ok', 0.857, 4)

    """
    measuring = Measuring.choose(
        metrics, empty=empty, tolerance=tolerance, lesion_overlap=lesion_overlap, lesion_sizes=lesion_sizes
    )
    return measure_masks(truth, prediction, labels, measuring, members=members or {}, spacing=spacing, ignored=ignored)


def measure_masks(
    truth: Labels,
    prediction: Labels,
    labels: Mapping[int, str],
    measuring: Measuring,
    *,
    members: Mapping[int, Sequence[int]],
    spacing: Sequence[float],
    ignored: npt.NDArray[np.bool_] | None,
    separate: Mapping[int, npt.NDArray[np.bool_]] | None = None,
) -> dict[int, ClassMetrics]:
    """Measure every class as :func:`evaluate_masks` does, with the metrics in ``measuring``.

    ``separate`` has the predicted masks (\\*S) of classes that are not taken from ``prediction``, by key.
    """
    import torch

    truth, prediction = np.asarray(truth), np.asarray(prediction)
    shape = check_grids(truth, prediction, spacing)
    for array, role in ((truth, "truth"), (prediction, "prediction")):
        if array.dtype.kind not in "biu":
            raise InputError(
                f"the {role} must hold integer labels, but it is {array.dtype}; threshold or round it first"
            )
    voxels = truth.size
    if ignored is not None:
        truth, prediction = (np.where(ignored, mask.dtype.type(0), mask) for mask in (truth, prediction))
        voxels -= int(np.count_nonzero(ignored))
    own = {key: mask if ignored is None else mask & ~ignored for key, mask in (separate or {}).items()}
    classes = {key: tuple(members.get(key, (key,))) for key in sorted(labels) if key != 0}
    values = sorted({value for union in classes.values() for value in union})
    volume = float(np.prod(spacing))
    axis = single_slice_axis(shape, spacing)
    if axis is not None:
        truth, prediction = truth.squeeze(axis), prediction.squeeze(axis)
        own = {key: mask.squeeze(axis) for key, mask in own.items()}
        spacing = [length for place, length in enumerate(spacing) if place != axis]
    steps, diagonal = tuple(map(float, spacing)), grid_diagonal(truth.shape, spacing)
    # Threads suffice because nearly all the time is spent in NumPy and SciPy, which release the GIL.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        boxes = list(pool.map(lambda mask: _boxes(mask, values), (truth, prediction)))

        def measure(key: int) -> ClassMetrics:
            union = classes[key]
            around = [[found[value] for value in union if value in found] for found in boxes]
            if key in own:
                around[1] = [box for box in [bounding_box(own[key])] if box is not None]
            box = _union([*around[0], *around[1]], truth.ndim)
            masks = _belongs(truth[box], union), own[key][box] if key in own else _belongs(prediction[box], union)
            pair = MaskPair(*masks, steps, diagonal, voxels, volume, measuring.tolerance, measuring.lesions)
            return measuring.measure(pair, labels[key])

        return dict(zip(classes, pool.map(measure, classes), strict=True))


def find_labels(mask: Labels, ignored: npt.NDArray[np.bool_] | None) -> set[int]:
    """Return the label values of a mask (*S), without the background and the values of ``ignored`` voxels (*S)."""
    return set(count_values(mask if ignored is None else mask[~ignored])) - {0}


def _belongs(pixels: Labels, union: Sequence[int]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pixels == union[0]
    for value in union[1:]:
        found |= pixels == value
    return found


def _boxes(pixels: Labels, values: Sequence[int]) -> dict[int, Box]:
    """Return the bounding box of every value that occurs, in one pass over the volume."""
    from scipy.ndimage import find_objects

    if pixels.size == 0 or not values:
        return {}
    if pixels.dtype == np.bool_:
        pixels = pixels.view(np.uint8)
    if values[0] > 0 and values[-1] <= _MOST_DIRECT:
        boxes = find_objects(pixels, values[-1])
        return {value: box for value in values if (box := boxes[value - 1]) is not None}
    # Indices into the sorted values, from 1, because find_objects needs small positive integers.
    ordered = np.asarray(values)
    places = np.minimum(np.searchsorted(ordered, pixels), len(ordered) - 1)
    ids = np.where(ordered[places] == pixels, places + 1, 0)
    return {value: box for value, box in zip(values, find_objects(ids, len(values)), strict=True) if box is not None}


def _union(boxes: Sequence[Box], dims: int) -> Box:
    if not boxes:
        return (slice(0, 0),) * dims
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*boxes, strict=True)
    )
