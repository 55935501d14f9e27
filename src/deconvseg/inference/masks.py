"""Class ids from logits and probabilities."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.data import LabelMap
from deconvseg.errors import DeconvsegError
from deconvseg.inference.slabs import Slab
from deconvseg.planning import Plan

Ids = NDArray[np.uint8 | np.uint16]
EMPTY = "the mask is empty"


@dataclass(frozen=True)
class Canvas:
    """The mask of an image, painted slab by slab from the logits of one or several networks.

    Attributes:
        plan: the plan, which defines the classes.
        where: the name of the image in messages.
        ids: class ids (\\*S).
        probabilities: (K, \\*S), if they are requested.

    """

    plan: Plan
    where: str
    ids: Ids
    probabilities: NDArray[np.float32] | None = None

    def paint(self, slab: Slab) -> None:
        """Fill in a slab.

        Raises :class:`~deconvseg.errors.DeconvsegError` for NaN or infinite logits, and if the number of maps is not
        that of the plan.
        """
        logits = slab.logits
        if any(len(each) != self.plan.outputs for each in logits):
            found = ", ".join(str(len(each)) for each in logits)
            raise DeconvsegError(f"{self.where}: the network gives {found} maps, but its plan has {self.plan.outputs}")
        # The maximum is NaN if any value is; this takes one pass and no temporary map.
        if not all(bool(torch.isfinite(each.amax())) for each in logits):
            raise DeconvsegError(
                f"{self.where}: the network's logits are NaN or infinite; look for extreme intensities in the image, "
                "and whether the training has diverged"
            )
        ids = slab.part_of(self.ids)
        if len(logits) == 1:
            ids[...] = labels_from_maps(logits[0], self.plan, threshold=0.0)
        if len(logits) > 1 or self.probabilities is not None:
            average = torch.stack([activate(each, self.plan.regions is not None) for each in logits]).mean(0)
            if len(logits) > 1:
                ids[...] = labels_from_maps(average, self.plan, threshold=0.5)
            if self.probabilities is not None:
                slab.part_of(self.probabilities)[...] = average.cpu().numpy()


def activate(logits: Tensor, regions: bool) -> Tensor:
    """Turn logits (K, \\*S) into probabilities: a sigmoid for each region, or a softmax over exclusive classes."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=0)


def ids_of(plan: Plan, shape: tuple[int, ...]) -> Ids:
    """Return class ids (\\*S), all background, in the smallest type that holds the plan's ids."""
    return np.zeros(shape, np.uint8 if len(plan.labels.values) <= 256 else np.uint16)


def labels_from_maps(maps: Tensor, plan: Plan, *, threshold: float) -> Ids:
    """Return class ids (\\*S) of maps (K, \\*S): the first of the largest, or regions above the threshold, painted."""
    few = len(plan.labels.values) <= 256
    ids = torch.zeros(maps.shape[1:], dtype=torch.uint8 if few else torch.int32, device=maps.device)
    if plan.regions is None:
        # Going map by map is several times faster on a CPU than `argmax` across maps that are far apart in memory.
        largest = maps[0].clone()
        for number, values in enumerate(maps[1:], 1):
            ids.masked_fill_(values > largest, number)
            torch.maximum(largest, values, out=largest)
    else:
        for place in plan.painting_order:
            ids.masked_fill_(maps[place] > threshold, plan.regions[place].paints)
    return ids.cpu().numpy().astype(np.uint8 if few else np.uint16, copy=False)


def describe_monotony(mask: LabelMap, plan: Plan) -> str | None:
    """Describe a mask that consists of one value; None if it holds several."""
    first = mask.pixels.flat[0]
    if (mask.pixels != first).any():
        return None
    if first == plan.labels.values[0]:
        return EMPTY
    names = dict(zip(plan.labels.values, plan.labels.names, strict=True))
    return f"the mask is {names.get(int(first), first)} everywhere"


def fill_background(probabilities: NDArray[np.float32], plan: Plan) -> None:
    """Set probabilities (K, *S) to those of certain background."""
    probabilities[...] = 0
    if plan.regions is None:
        probabilities[0] = 1
