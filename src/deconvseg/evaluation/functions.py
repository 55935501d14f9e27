"""Metrics of two arrays of voxels, as public functions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation.definition import Metric
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.evaluation.metrics import ASSD, DICE, HD95, NSD, tally_lesions
from deconvseg.evaluation.pair import MaskPair, pair_masks


def dice(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Return the Dice similarity coefficient of two masks (*S): 1 if both are empty, 0 if one is.

    Raises :class:`InputError` for different shapes.

    Example:
        >>> from deconvseg.evaluation import dice
        >>> dice([[1, 1, 0, 0]], [[0, 1, 1, 0]])
        0.5

    """
    truth = np.asarray(truth)
    return _measure(DICE, pair_masks(truth, prediction, (1.0,) * truth.ndim))


def hausdorff95(truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float]) -> float:
    """Return the 95th percentile Hausdorff distance of two masks (*S), 2D or 3D, in the unit of ``spacing``.

    ``spacing`` is per array axis. Boundary voxels are those with a face outside their mask; the value is the
    larger of the two directed percentiles, interpolated linearly, as in MONAI's
    ``compute_hausdorff_distance``. Both masks empty: 0. One empty: the diagonal of the image. A volume of a single
    slice is measured as that slice, in 2D. Raises :class:`InputError` for shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from deconvseg.evaluation import hausdorff95
        >>> truth, prediction = np.zeros((2, 8, 8), dtype=bool)
        >>> truth[2:6, 2:6] = prediction[2:6, 4:8] = True
        >>> hausdorff95(truth, prediction, spacing=(1.0, 0.5))  # two columns of 0.5 mm apart
        1.0

    """
    return _measure(HD95, pair_masks(truth, prediction, spacing))


def average_surface_distance(truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float]) -> float:
    """Return the average symmetric surface distance of two masks (*S), 2D or 3D, in the unit of ``spacing``.

    The mean of the distances from all boundary voxels of either mask to the other's boundary, as in MONAI's
    ``compute_average_surface_distance(symmetric=True)`` and medpy's ``assd``. Both masks empty: 0. One empty: the
    diagonal of the image. Raises :class:`InputError` for shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from deconvseg.evaluation import average_surface_distance
        >>> truth, prediction = np.zeros((2, 8, 8), dtype=bool)
        >>> truth[2:6, 2:6] = prediction[2:6, 2:7] = True
        >>> round(average_surface_distance(truth, prediction, spacing=(1.0, 1.0)), 3)
        0.231

    """
    return _measure(ASSD, pair_masks(truth, prediction, spacing))


def normalized_surface_dice(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, spacing: Sequence[float], tolerance: float
) -> float:
    """Return the surface Dice of two masks (*S), 2D or 3D, at a tolerance in the unit of ``spacing``.

    The share of both surfaces, by area, that lies within ``tolerance`` of the other (Nikolov et al., arXiv
    1809.04430), as in the surface-distance package; a relative slack of 1e-4 is added to the tolerance, so that
    rounding of the spacing has no effect. Both masks empty: 1. One empty: 0. A volume of a single slice is measured as
    that slice, in 2D. Raises :class:`InputError` for shapes that do not fit or a negative tolerance.

    Example:
        >>> import numpy as np
        >>> from deconvseg.evaluation import normalized_surface_dice
        >>> truth, prediction = np.zeros((2, 8, 8), dtype=bool)
        >>> truth[2:6, 2:6] = prediction[2:6, 2:7] = True
        >>> normalized_surface_dice(truth, prediction, spacing=(1.0, 1.0), tolerance=1.0)
        1.0

    """
    return _measure(NSD, pair_masks(truth, prediction, spacing, tolerance=tolerance))


def count_lesions(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    spacing: Sequence[float],
    *,
    overlap: float = 0.0,
    sizes: Sequence[float] = (),
) -> dict[str, dict[str, int]]:
    """Return how many lesions of two masks (*S), 2D or 3D, are "found", "missed" and "false".

    The result has these three counts for "all" lesions and for each size class between the ascending bounds ``sizes``,
    in the cube (2D: square) of the unit of ``spacing``. See
    :class:`~deconvseg.evaluation.lesions.LesionRule` for the definition of a found lesion at a minimum ``overlap``.
    Raises :class:`InputError` for shapes that do not fit, an overlap outside [0, 1], or bounds that do not ascend.

    Example:
        >>> from deconvseg.evaluation import count_lesions
        >>> count_lesions([[1, 0, 1, 0]], [[1, 1, 1, 0]], (1.0, 1.0))  # one prediction covers two lesions
        {'all': {'found': 2, 'missed': 0, 'false': 0}}

    """
    pair = pair_masks(truth, prediction, spacing, lesions=LesionRule(overlap, tuple(sizes)))
    groups: dict[str, dict[str, int]] = {}
    for count, number in tally_lesions(pair).items():
        groups.setdefault(count.group, {})[count.name] = number
    return groups


def _measure(metric: Metric, pair: MaskPair) -> float:
    value = metric.measure(pair, "diagonal")
    assert value is not None
    return value
