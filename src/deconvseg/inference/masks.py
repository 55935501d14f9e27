"""From maps to class ids."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.planning import Plan


def labels_from_maps(maps: Tensor, plan: Plan, *, threshold: float) -> NDArray[np.uint8 | np.uint16]:
    """Return class ids (\\*S) of maps (K, \\*S): the first of the largest, or regions above the threshold in order."""
    few = len(plan.labels.values) <= 256
    ids = torch.zeros(maps.shape[1:], dtype=torch.uint8 if few else torch.int32, device=maps.device)
    if plan.regions is None:
        # Map by map is several times faster on a CPU than `argmax` across maps that lie far apart.
        largest = maps[0].clone()
        for number, values in enumerate(maps[1:], 1):
            ids.masked_fill_(values > largest, number)
            torch.maximum(largest, values, out=largest)
    else:
        for region, values in zip(plan.regions, maps, strict=True):
            ids.masked_fill_(values > threshold, region.paints)
    return ids.cpu().numpy().astype(np.uint8 if few else np.uint16, copy=False)


def fill_background(probabilities: NDArray[np.float32], plan: Plan) -> None:
    """Set probabilities (K, *S) to those of certain background."""
    probabilities[...] = 0
    if plan.regions is None:
        probabilities[0] = 1
