"""The built-in metrics: their formulas and their entries in the registry."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation.definition import Count, Metric, MetricInfo
from deconvseg.evaluation.empty_masks import EmptyCases
from deconvseg.evaluation.pair import MaskPair, Status
from deconvseg.evaluation.registry import register_metric
from deconvseg.evaluation.surfaces import distances_to, surface_elements

# The default metrics.
DEFAULT_METRICS = ("dsc", "hd95", "hd95_defined", "nsd")
# The metrics of files of earlier versions, which do not list them.
FORMER_METRICS = ("dsc", "hd95", "nsd")
# In every row, because cases are ranked by Dice and nnU-Net's summary contains both.
ALWAYS_MEASURED = ("dsc", "iou")

# Spacings are from headers in single precision and from matrices of rotated axes, so a distance equal to the tolerance
# may be larger by a relative error of about 1e-7. A slack of 1e-4 is far above that and far below the resolution of any
# scanner.
TOLERANCE_SLACK = 1e-4

# Overlap metrics: 1 if both masks are empty, 0 if only one is empty.
_OVERLAP = (1.0, 0.0, 0.0)
_NO_TRUTH: tuple[Status, ...] = ("both empty", "spurious")
_ANY_EMPTY: tuple[Status, ...] = ("both empty", "missed", "spurious")


def _dice(pair: MaskPair) -> float:
    truth, prediction, both = pair.counts
    return 2.0 * both / (truth + prediction)


def _iou(pair: MaskPair) -> float:
    truth, prediction, both = pair.counts
    return both / (truth + prediction - both)


def _hausdorff95(pair: MaskPair) -> float:
    return max(_percentile95(distances) for distances in pair.boundary_distances)


def _average_surface_distance(pair: MaskPair) -> float:
    return float(np.concatenate(pair.boundary_distances).mean())


def _normalized_surface_dice(pair: MaskPair) -> float:
    reach = pair.tolerance * (1 + TOLERANCE_SLACK)
    (truth, truth_area), (prediction, prediction_area) = (
        surface_elements(mask, pair.spacing) for mask in (pair.truth, pair.prediction)
    )
    near = truth_area[distances_to(truth, prediction, pair.spacing, reach) <= reach].sum()
    near += prediction_area[distances_to(prediction, truth, pair.spacing, reach) <= reach].sum()
    return float(near / (truth_area.sum() + prediction_area.sum()))


def _relative_volume_difference(pair: MaskPair) -> float:
    truth, prediction, _ = pair.counts
    return (prediction - truth) / truth


def _sensitivity(pair: MaskPair) -> float:
    truth, _, both = pair.counts
    return both / truth


def _precision(pair: MaskPair) -> float:
    _, prediction, both = pair.counts
    return both / prediction


def _specificity(pair: MaskPair) -> float:
    truth, prediction, both = pair.counts
    outside = pair.voxels - truth
    # If the truth fills the image, there is no voxel that could be a false positive.
    return (outside - prediction + both) / outside if outside else 1.0


def _lesion_f1(pair: MaskPair) -> float:
    found = _f1(pair.detection.total())
    assert found is not None
    return found


def _f1(lesions: Mapping[str, int]) -> float | None:
    """Return the F1 score of counts of lesions, None without any."""
    found = 2 * lesions["found"]
    all_lesions = found + lesions["missed"] + lesions["false"]
    return found / all_lesions if all_lesions else None


def tally_lesions(pair: MaskPair) -> dict[Count, int]:
    """Return the numbers of found, missed and false lesions, of all sizes and by size class."""
    groups = {"all": pair.detection.total()}
    groups |= {name: pair.detection.of_size(place) for place, name in enumerate(pair.lesions.groups)}
    return {
        Count("_".join(["lesions", name, *(group.split() if group != "all" else ())]), group, name): number
        for group, numbers in groups.items()
        for name, number in numbers.items()
    }


def _percentile95(distances: npt.NDArray[np.float64]) -> float:
    # MONAI computes the rank in single precision; double precision would differ in the sixth digit.
    rank = float(np.float32(0.95) * np.float32(len(distances) - 1))
    below = int(rank)
    above = min(below + 1, len(distances) - 1)
    ordered = np.partition(distances, (below, above))
    return float(ordered[below] + (rank - below) * (ordered[above] - ordered[below]))


DICE = register_metric(
    Metric(
        key="dsc",
        title="Dice",
        function=_dice,
        empty=EmptyCases(*_OVERLAP, undefined=_NO_TRUTH),
        meaning="Dice (DSC) is twice the overlap over the sum of both masks.",
    )
)
register_metric(
    Metric(
        key="iou",
        title="IoU",
        function=_iou,
        empty=EmptyCases(*_OVERLAP, undefined=_NO_TRUTH),
        meaning="IoU (Jaccard index) is the overlap over the union of both masks.",
    )
)
HD95 = register_metric(
    Metric(
        key="hd95",
        title="HD95",
        function=_hausdorff95,
        empty=EmptyCases(0.0, "diagonal", "diagonal", undefined=_ANY_EMPTY),
        unit="length",
        digits=2,
        better="lower",
        meaning="HD95 is the larger of the two 95th percentiles of the distances between the boundaries.",
    )
)
register_metric(
    Metric(
        key="hd95_defined",
        title="HD95 defined",
        function=_hausdorff95,
        empty=EmptyCases(None, None, None, undefined=_ANY_EMPTY),
        unit="length",
        digits=2,
        better="lower",
        meaning="HD95 defined is HD95 over only the cases in which neither mask is empty.",
        beside="hd95",
    )
)
NSD = register_metric(
    Metric(
        key="nsd",
        title="NSD",
        function=_normalized_surface_dice,
        empty=EmptyCases(*_OVERLAP, undefined=("both empty",)),
        meaning="NSD is the share of both surfaces that lies within the tolerance of the other one.",
        options=("tolerance",),
    )
)
ASSD = register_metric(
    Metric(
        key="assd",
        title="ASSD",
        function=_average_surface_distance,
        empty=EmptyCases(0.0, "diagonal", "diagonal", undefined=_ANY_EMPTY),
        unit="length",
        digits=2,
        better="lower",
        meaning="ASSD is the mean distance from the boundary voxels of either mask to the other's boundary.",
    )
)
register_metric(
    Metric(
        key="rvd",
        title="RVD",
        function=_relative_volume_difference,
        # The formula has no value for a spurious structure; it counts as much as a missed one.
        empty=EmptyCases(0.0, -1.0, 1.0, undefined=_NO_TRUTH),
        better="zero",
        meaning="RVD is the difference of the volumes, prediction minus truth, over that of the truth.",
    )
)
register_metric(
    Metric(
        key="sensitivity",
        title="Sensitivity",
        function=_sensitivity,
        empty=EmptyCases(*_OVERLAP, undefined=_NO_TRUTH),
        meaning="Sensitivity is the share of the truth that is predicted.",
    )
)
register_metric(
    Metric(
        key="precision",
        title="Precision",
        function=_precision,
        empty=EmptyCases(*_OVERLAP, undefined=("both empty", "missed")),
        meaning="Precision is the share of the prediction that is true.",
    )
)
register_metric(
    Metric(
        key="specificity",
        title="Specificity",
        function=_specificity,
        empty=EmptyCases(1.0, 1.0, "computed"),
        digits=4,
        meaning="Specificity is the share of the voxels outside the truth that are not predicted.",
    )
)
register_metric(
    Metric(
        key="lesion_f1",
        title="Lesion F1",
        function=_lesion_f1,
        empty=EmptyCases(*_OVERLAP, undefined=_NO_TRUTH),
        meaning=(
            "Lesion F1 is twice the found lesions over twice the found, the missed and the false ones; lesions are "
            "connected components, and their sizes have the unit of the volumes."
        ),
        options=("lesion_overlap", "lesion_sizes"),
        tally=tally_lesions,
        pooled=_f1,
    )
)


def choose_shown(metrics: Sequence[MetricInfo], dropped: Mapping[str, int]) -> tuple[MetricInfo, ...]:
    """Return the metrics for tables: those of a default choice without columns that repeat another metric.

    A metric that stands beside another one repeats it if no value is ``dropped`` (by key).
    """
    if {metric.key for metric in metrics} != set(DEFAULT_METRICS):
        return tuple(metrics)
    return tuple(metric for metric in metrics if not metric.beside or dropped[metric.key])
