"""Detection of lesions as connected components: found, missed and false lesions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

# Spacings have single precision, so a size equal to a bound may be smaller by a relative error of about 1e-7.
_SIZE_SLACK = 1e-4
# Rounding error of the product of a share and a count.
_SHARE_SLACK = 1e-9


@dataclass(frozen=True)
class LesionRule:
    """The criterion for found lesions, and the bounds of the size classes.

    Lesions are the connected components of a mask, voxels that share a corner included (26 neighbours in 3D, 8 in 2D).
    A lesion of the truth is *found* if at least the share ``overlap`` of its voxels, and at least one, is predicted;
    otherwise it is *missed*. A predicted lesion is *false* if less than that share of its own voxels, or none, is in
    the truth. Every lesion is compared with the whole other mask and not with a single partner, so merged and split
    components do not change the counts: a prediction that joins two lesions finds both, and a lesion predicted in two
    pieces is found once, with neither piece false.

    ``sizes`` are the ascending bounds of the size classes, in the unit of the volumes (2D: areas). The class of a true
    lesion follows from its own size, that of a false lesion from the size of the predicted component. Raises
    :class:`InputError` for a share outside [0, 1] and bounds that are not positive and ascending.
    """

    overlap: float = 0.0
    sizes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the share and the bounds."""
        share: object = self.overlap
        bounds: tuple[object, ...] = self.sizes
        if not isinstance(share, Real) or not 0 <= self.overlap <= 1:
            raise InputError(f"`lesion_overlap` is a share between 0 and 1, but it is {self.overlap}")
        numbers = all(isinstance(bound, Real) for bound in bounds)
        if not numbers or not all(low < high for low, high in pairwise((0.0, *self.sizes, float("inf")))):
            raise InputError(f"`lesion_sizes` are positive sizes in ascending order, but they are {list(self.sizes)}")
        object.__setattr__(self, "sizes", tuple(map(float, self.sizes)))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the size classes, such as "below 10", "10 to 100", "from 100"; empty without bounds."""
        if not self.sizes:
            return ()
        numbers = [f"{bound:.12g}" for bound in self.sizes]
        between = [f"{low} to {high}" for low, high in pairwise(numbers)]
        return (f"below {numbers[0]}", *between, f"from {numbers[-1]}")


@dataclass(frozen=True)
class Detection:
    """Numbers of lesions per size class (K): true lesions ``found`` and ``missed``, predicted lesions ``false``."""

    found: Integers
    missed: Integers
    false: Integers

    def total(self) -> dict[str, int]:
        """Return the counts over all sizes."""
        return {name: int(counts.sum()) for name, counts in vars(self).items()}

    def of_size(self, place: int) -> dict[str, int]:
        """Return the counts of one size class."""
        return {name: int(counts[place]) for name, counts in vars(self).items()}


def detect_lesions(truth: Mask, prediction: Mask, voxel_size: float, rule: LesionRule) -> Detection:
    """Count found, missed and false lesions of two masks (*S) with ``voxel_size`` as voxel volume (2D: area)."""
    true_sizes, covered = _components(truth, prediction)
    sizes, right = _components(prediction, truth)
    found, false = _is_met(covered, true_sizes, rule), ~_is_met(right, sizes, rule)
    true_groups, groups = (_group(counts * voxel_size, rule.sizes) for counts in (true_sizes, sizes))
    n = len(rule.sizes) + 1
    return Detection(
        found=np.bincount(true_groups[found], minlength=n),
        missed=np.bincount(true_groups[~found], minlength=n),
        false=np.bincount(groups[false], minlength=n),
    )


def detect_at_levels(
    truth: Mask, levels: npt.NDArray[np.uint8], thresholds: Sequence[int], rule: LesionRule
) -> Integers:
    """Count found, missed and false lesions (3, T) of the predictions ``levels > t``, as `detect_lesions` counts them.

    The lesions of the truth (*S) are labelled once for all thresholds.
    """
    from scipy.ndimage import label

    labelled, count = label(truth, structure=np.ones((3,) * truth.ndim))
    inside = labelled[truth]
    joint = np.bincount(inside * 256 + levels[truth], minlength=(count + 1) * 256).reshape(count + 1, 256)[1:]
    sizes = joint.sum(axis=1)
    rows = []
    for threshold in thresholds:
        met = _is_met(joint[:, threshold + 1 :].sum(axis=1), sizes, rule)
        own_sizes, right = _components(levels > threshold, truth)
        false = ~_is_met(right, own_sizes, rule)
        rows.append((met.sum(), (~met).sum(), false.sum()))
    counts: Integers = np.array(rows, np.int64).reshape(-1, 3).T
    return counts


def _components(mask: Mask, other: Mask) -> tuple[Integers, Integers]:
    """Return the number of voxels of each component of a mask (*S), and how many of them are in the other mask."""
    from scipy.ndimage import label

    labelled, count = label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(labelled[mask], minlength=count + 1)[1:]
    common = np.bincount(labelled[mask & other], minlength=count + 1)[1:]
    return sizes, common


def _is_met(common: Integers, sizes: Integers, rule: LesionRule) -> Mask:
    least: Mask = common >= np.maximum(1, rule.overlap * sizes * (1 - _SHARE_SLACK))
    return least


def _group(sizes: npt.NDArray[np.floating[Any]], bounds: Sequence[float]) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.asarray(bounds) * (1 - _SIZE_SLACK), sizes, side="right")
