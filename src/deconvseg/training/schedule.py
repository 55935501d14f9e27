"""The learning rate over a run."""

import math


def learning_rate_factor(progress: float, *, warmup: float, warmup_from: float) -> float:
    """Return the factor on the learning rate at a fraction of the run: linear warm-up, then cosine to zero.

    Deconver (section IV-A3) warms up over 1 % of the run from a tenth of its learning rate.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return warmup_from + (1 - warmup_from) * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
