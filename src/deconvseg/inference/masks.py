"""The mask of an image, painted slab by slab."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deconvseg.data import LabelMap
from deconvseg.errors import DeconvsegError
from deconvseg.inference.deciding import Ids, Rule, activate
from deconvseg.inference.doubting import DoubtSums
from deconvseg.inference.slabs import Slab
from deconvseg.planning import Plan

EMPTY = "the mask is empty"


@dataclass(frozen=True)
class Canvas:
    """The mask of an image, painted slab by slab from the logits of one or several networks.

    Attributes:
        rule: the rule that decides class ids.
        where: the name of the image in messages.
        ids: class ids (\\*S).
        doubted: whether :meth:`paint` returns the sums for the doubt of the case.
        probabilities: (K, \\*S), if they are requested.
        levels: of each structure (\\*S), counted by :meth:`~deconvseg.inference.Rule.levels`, if they are requested.
        regions: where each region is predicted by itself (R, \\*S), by :meth:`~deconvseg.inference.Rule.separate`, if
            requested.

    """

    rule: Rule
    where: str
    ids: Ids
    doubted: bool = False
    probabilities: NDArray[np.float32] | None = None
    levels: NDArray[np.uint8] | None = None
    regions: NDArray[np.uint8] | None = None

    def paint(self, slab: Slab) -> DoubtSums | None:
        """Fill in a slab, and return its sums if the case is ``doubted``.

        Raises :class:`~deconvseg.errors.DeconvsegError` for NaN or infinite logits, and if the number of maps is not
        that of the plan.
        """
        logits, plan = slab.logits, self.rule.plan
        if any(len(each) != plan.outputs for each in logits):
            found = ", ".join(str(len(each)) for each in logits)
            raise DeconvsegError(f"{self.where}: the network gives {found} maps, but its plan has {plan.outputs}")
        # The maximum is NaN if any value is; this takes one pass and no temporary map.
        if not all(bool(torch.isfinite(each.amax())) for each in logits):
            raise DeconvsegError(
                f"{self.where}: the network's logits are NaN or infinite; check the image for extreme intensities, "
                "and whether the training has diverged"
            )
        every = logits
        if len(logits) > 1 and plan.inference.average == "logits":
            logits = (torch.stack(logits).mean(0) if slab.mean is None else slab.mean,)
        alone = len(logits) == 1
        average = None
        if not alone or self.probabilities is not None:
            average = torch.stack([activate(each, plan.regions is not None) for each in logits]).mean(0)
        if average is not None and self.probabilities is not None:
            slab.part_of(self.probabilities)[...] = average.cpu().numpy()
        # With one network, or the mean of their logits, logits decide, because probabilities are rounded.
        maps = logits[0] if alone or average is None else average
        ids = self.rule.decide(maps, logits=alone)
        slab.part_of(self.ids)[...] = ids.cpu().numpy()
        if self.levels is not None:
            slab.part_of(self.levels)[...] = self.rule.levels(maps, logits=alone)
        if self.regions is not None:
            slab.part_of(self.regions)[...] = self.rule.separate(maps, logits=alone).cpu().numpy()
        return DoubtSums.of(every, maps, ids, self.rule, logits=alone) if self.doubted else None


def ids_of(plan: Plan, shape: tuple[int, ...]) -> Ids:
    """Return class ids (\\*S), all background, in the smallest type that holds the plan's ids."""
    return np.zeros(shape, np.uint8 if len(plan.labels.values) <= 256 else np.uint16)


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
