"""From probabilities to class ids."""

import numpy as np
from numpy.typing import NDArray

from deconvseg.planning import Plan


def labels_from_probabilities(probabilities: NDArray[np.float32], plan: Plan) -> NDArray[np.uint8 | np.uint16]:
    """Return class ids (*S) of probabilities (K, *S): the largest, or regions above 0.5 in the plan's order."""
    dtype = np.uint8 if len(plan.labels.values) <= 256 else np.uint16
    if plan.regions is None:
        largest: NDArray[np.uint8 | np.uint16] = probabilities.argmax(axis=0).astype(dtype)
        return largest
    ids = np.zeros(probabilities.shape[1:], dtype)
    for region, probability in zip(plan.regions, probabilities, strict=True):
        ids[probability > 0.5] = region.paints
    return ids
