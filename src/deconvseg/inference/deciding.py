"""Class ids from logits and probabilities: by the largest map, or by thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.planning import Plan
from deconvseg.runs import GRID, Threshold, check_threshold

Ids = NDArray[np.uint8 | np.uint16]
RuleKind = Literal["largest", "margin", "foreground", "classes", "regions"]


def activate(logits: Tensor, regions: bool) -> Tensor:
    """Convert logits (K, \\*S) to probabilities: a sigmoid for regions, a softmax for exclusive classes."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=0)


def labels_from_maps(maps: Tensor, plan: Plan, *, threshold: float) -> Ids:
    """Return class ids (\\*S) of maps (K, \\*S): the first largest map, or regions above the threshold, painted."""
    if plan.regions is None:
        return _to_numpy(_largest(maps, plan), plan)
    return _to_numpy(_painted(maps, plan, dict.fromkeys(range(plan.outputs), threshold)), plan)


@dataclass(frozen=True)
class Rule:
    """The rule by which the maps of a network, or the mean of several, become a mask.

    Without a ``threshold``, a voxel gets the class with the largest probability; a region is predicted where its
    probability is above 0.5. A threshold T between 0 and 1 changes this:

    * Regions: a region is predicted where its probability is above T (one number for all, or numbers by name; regions
      without a number keep 0.5). Regions are painted in the order of the plan.
    * Exclusive classes, one number: a voxel is foreground where 1 - p(background) is above T, and gets the foreground
      class with the largest probability.
    * Exclusive classes, numbers by name: a voxel gets a named class where its probability is above its T (the most
      probable one if there are several), and elsewhere the most probable of the background and the other classes.

    For regions and for a single class, T = 0.5 is the same as no threshold. Raises
    :class:`~deconvseg.errors.InputError` for numbers that are not between 0 and 1, and for unknown names.

    Example:
        >>> import torch
        >>> from deconvseg.inference import Rule
        >>> from deconvseg.planning import read_plan
        >>> plan = read_plan("plan.json")
        >>> probabilities = torch.tensor([[[0.9, 0.6, 0.1]], [[0.1, 0.4, 0.9]]])
        >>> Rule(plan).ids(probabilities, logits=False).tolist()
        [[0, 0, 1]]
        >>> Rule(plan, 0.3).ids(probabilities, logits=False).tolist()
        [[0, 1, 1]]

    """

    plan: Plan
    threshold: Threshold | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            object.__setattr__(self, "threshold", check_threshold(self.threshold, self.plan.output_names))

    def ids(self, maps: Tensor, *, logits: bool) -> Ids:
        """Return class ids (\\*S) of maps (K, \\*S), which are logits of one network or probabilities."""
        return _to_numpy(self.decide(maps, logits=logits), self.plan)

    def decide(self, maps: Tensor, *, logits: bool) -> Tensor:
        """Return class ids (\\*S) as a tensor on the device of the maps."""
        if self.plan.regions is not None:
            return _painted(maps, self.plan, self._region_bounds(logits))
        if self.threshold is None:
            return _largest(maps, self.plan)
        if self.plan.outputs == 2:
            threshold = self.threshold if isinstance(self.threshold, float) else next(iter(self.threshold.values()))
            return (_margin(maps) > _margin_bound(threshold, logits)).to(_id_type(self.plan))
        probabilities = torch.softmax(maps, dim=0) if logits else maps
        if isinstance(self.threshold, float):
            first = _largest(probabilities[1:], self.plan) + 1
            return first.masked_fill_(~(1 - probabilities[0] > _single(self.threshold)), 0)
        return self._decide_by_name(probabilities, self.threshold)

    @property
    def kind(self) -> RuleKind:
        """The kind of the rule: "regions", "largest", "margin" (of two classes), "foreground" or "classes"."""
        if self.plan.regions is not None:
            return "regions"
        if self.threshold is None:
            return "largest"
        if self.plan.outputs == 2:
            return "margin"
        return "foreground" if isinstance(self.threshold, float) else "classes"

    def bounds(self, *, logits: bool) -> dict[int, float]:
        """Return the bound of each map that has one, in the order of application, on the scale of :meth:`decide`.

        The bound of a "margin" is that of map 1 minus map 0, and that of the "foreground" of 1 - p(background), map 0;
        bounds of "foreground" and "classes" are always on probabilities.
        """
        kind = self.kind
        if kind == "regions":
            bounds = self._region_bounds(logits)
            return {place: bounds[place] for place in self.plan.painting_order}
        if kind == "largest" or self.threshold is None:
            return {}
        given = self.threshold
        named = {} if isinstance(given, float) else {1 + self.plan.output_names.index(n): v for n, v in given.items()}
        if kind == "margin":
            return {1: _margin_bound(given if isinstance(given, float) else named[1], logits)}
        if isinstance(given, float):
            return {0: _single(given)}
        return {number: _single(named[number]) for number in sorted(named)}

    def separate(self, maps: Tensor, *, logits: bool) -> Tensor:
        """Return where each region is predicted, (R, \\*S) in the order of the plan's ``structures``.

        Each region is thresholded by itself, so a voxel may be in a region and not in the one that contains it.
        """
        bounds = self._region_bounds(logits)
        return torch.stack([maps[place] > bounds[place] for place in self.plan.painting_order])

    def levels(self, maps: Tensor, *, logits: bool) -> NDArray[np.uint8]:
        """Count, for each structure and voxel, the thresholds of :data:`~deconvseg.runs.GRID` at which it is predicted.

        Returns (K, \\*S). Each structure is thresholded separately, with the default rule for the others: its mask at
        threshold number n is where the count is larger than n. The mask of a region is that of :meth:`separate`.
        """
        plan = self.plan
        if plan.regions is not None:
            found = [_count_below(each, [_bound(t, logits) for t in GRID]) for each in maps]
        elif plan.outputs == 2:
            found = [_count_below(_margin(maps), [_margin_bound(t, logits) for t in GRID])]
        else:
            probabilities = torch.softmax(maps, dim=0) if logits else maps
            found = [_count_below(each, GRID) for each in probabilities[1:]]
        return torch.stack(found).cpu().numpy()

    def _region_bounds(self, logits: bool) -> dict[int, float]:
        return {place: _bound(threshold, logits) for place, threshold in self._region_thresholds.items()}

    @cached_property
    def _region_thresholds(self) -> dict[int, float]:
        names, given = self.plan.output_names, self.threshold
        if isinstance(given, Mapping):
            return {place: given.get(name, 0.5) for place, name in enumerate(names)}
        return dict.fromkeys(range(len(names)), 0.5 if given is None else given)

    def _decide_by_name(self, probabilities: Tensor, threshold: Mapping[str, float]) -> Tensor:
        """Return class ids if some of the classes have thresholds."""
        ids = torch.zeros(probabilities.shape[1:], dtype=_id_type(self.plan), device=probabilities.device)
        largest, best = probabilities[0].clone(), torch.zeros_like(probabilities[0])
        named = {1 + self.plan.output_names.index(name): _single(value) for name, value in threshold.items()}
        for number, values in enumerate(probabilities[1:], 1):
            if number not in named:
                ids.masked_fill_(values > largest, number)
                torch.maximum(largest, values, out=largest)
        for number in sorted(named):
            values = probabilities[number]
            taken = (values > named[number]) & (values > best)
            ids.masked_fill_(taken, number)
            best = torch.where(taken, values, best)
        return ids


def _largest(maps: Tensor, plan: Plan) -> Tensor:
    """Return the number of the first of the largest maps."""
    ids = torch.zeros(maps.shape[1:], dtype=_id_type(plan), device=maps.device)
    # A loop over maps is several times faster on a CPU than `argmax` over a dimension with a large stride.
    largest = maps[0].clone()
    for number, values in enumerate(maps[1:], 1):
        ids.masked_fill_(values > largest, number)
        torch.maximum(largest, values, out=largest)
    return ids


def _painted(maps: Tensor, plan: Plan, bounds: Mapping[int, float]) -> Tensor:
    """Paint each region where its map is above its bound."""
    assert plan.regions is not None
    ids = torch.zeros(maps.shape[1:], dtype=_id_type(plan), device=maps.device)
    for place in plan.painting_order:
        ids.masked_fill_(maps[place] > bounds[place], plan.regions[place].paints)
    return ids


def _margin(maps: Tensor) -> Tensor:
    """Return the only class minus the background, which is above 0 where the class is the larger one."""
    return maps[1] - maps[0]


def _margin_bound(threshold: float, logits: bool) -> float:
    return _bound(threshold, logits) if logits else _single(2 * threshold - 1)


def _bound(threshold: float, logits: bool) -> float:
    """Return a threshold on the scale of the maps; for logits, 0.5 is exactly 0."""
    return _single(math.log(threshold / (1 - threshold)) if logits else threshold)


def _single(number: float) -> float:
    """Return a number rounded to single precision, the precision of the maps."""
    return float(np.float32(number))


def _count_below(values: Tensor, bounds: list[float] | tuple[float, ...]) -> Tensor:
    """Return the number of the ascending bounds below each value, as uint8."""
    edges = torch.tensor(bounds, dtype=torch.float32, device=values.device)
    return torch.bucketize(values.contiguous(), edges, out_int32=True).to(torch.uint8)


def _id_type(plan: Plan) -> torch.dtype:
    return torch.uint8 if len(plan.labels.values) <= 256 else torch.int32


def _to_numpy(ids: Tensor, plan: Plan) -> Ids:
    return ids.cpu().numpy().astype(np.uint8 if len(plan.labels.values) <= 256 else np.uint16, copy=False)
