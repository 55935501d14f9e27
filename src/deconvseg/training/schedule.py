"""The learning rate over a run."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rise:
    """The factor of the learning rate, and the fraction of the new length, at which a run was extended."""

    progress: float
    factor: float


def learning_rate_factor(progress: float, *, warmup: float, warmup_from: float, rise: Rise | None = None) -> float:
    """Return the factor on the learning rate at a fraction of the run: linear warm-up, then cosine to zero.

    Deconver (section IV-A3) warms up over 1 % of the run from a tenth of its learning rate. After a ``rise`` the factor
    moves linearly from the factor of the rise to this schedule, over the warm-up's fraction of the remaining run.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        factor = warmup_from + (1 - warmup_from) * progress / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    length = 0.0 if rise is None else warmup * (1 - rise.progress)
    if rise is None or progress >= rise.progress + length:
        return factor
    return rise.factor + max(0.0, progress - rise.progress) / length * (factor - rise.factor)
