"""The learning rate over a run."""

import math
from dataclasses import dataclass

# nnU-Net's (Isensee et al., Nature Methods 2021).
_POLY_EXPONENT = 0.9


@dataclass(frozen=True)
class Rise:
    """The factor of the learning rate, and the fraction of the new length, at which a run was extended."""

    progress: float
    factor: float


def learning_rate_factor(
    progress: float, *, warmup: float, warmup_from: float, schedule: str = "cosine", rise: Rise | None = None
) -> float:
    """Return the factor on the learning rate at a fraction of the run: linear warm-up, then the schedule.

    ``schedule`` is ``"cosine"`` or ``"poly"``, which fall to zero, or ``"constant"``.

    Deconver (section IV-A3) warms up over 1 % of the run from a tenth of its learning rate. After a ``rise`` the factor
    moves linearly from the factor of the rise to this schedule, over the warm-up's fraction of the remaining run.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        factor = warmup_from + (1 - warmup_from) * progress / warmup
    else:
        factor = _decay(schedule, (progress - warmup) / (1 - warmup))
    length = 0.0 if rise is None else warmup * (1 - rise.progress)
    if rise is None or progress >= rise.progress + length:
        return factor
    return rise.factor + max(0.0, progress - rise.progress) / length * (factor - rise.factor)


def _decay(schedule: str, progress: float) -> float:
    """Return the factor after the warm-up, at a fraction of the rest of the run."""
    if schedule == "constant":
        return 1.0
    if schedule == "poly":
        return float((1 - progress) ** _POLY_EXPONENT)
    return 0.5 * (1 + math.cos(math.pi * progress))
