"""The doubt of a prediction: the entropy of its foreground, and the disagreement of several networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deconvseg.inference.deciding import Rule, activate

# Probabilities are clamped above 0, whose logarithm is infinite.
_LEAST = 1e-12


@dataclass(frozen=True)
class Doubt:
    """Measures of the uncertainty of one prediction; a certain prediction may still be wrong.

    Attributes:
        entropy: mean normalised entropy of the predicted foreground voxels, 0 to 1; None for an empty prediction. For
            exclusive classes it is -Σ p log p / log K, for regions the mean of their binary entropies in bits.
        largest_foreground: the largest probability of foreground in an empty prediction; otherwise None.
        disagreement: 1 - the mean Dice over pairs of the individual networks' masks, over the structures that either
            network of a pair predicts; 0 if all masks are empty, None for one network.

    """

    entropy: float | None
    largest_foreground: float | None = None
    disagreement: float | None = None

    @property
    def score(self) -> float:
        """The value that orders cases: the entropy or, if empty, the largest probability of foreground."""
        if self.entropy is not None:
            return self.entropy
        return self.largest_foreground or 0.0


@dataclass(frozen=True)
class CaseDoubt:
    """The doubt of a case, and whether its mask is flagged; ``doubtful`` is None without a limit."""

    doubt: Doubt
    doubtful: bool | None = None

    @classmethod
    def judge(cls, doubt: Doubt, limit: float | None) -> CaseDoubt:
        """Flag a case whose score is above the limit, if there is one."""
        return cls(doubt, None if limit is None else doubt.score > limit)

    @property
    def score(self) -> float:
        """The value that orders cases."""
        return self.doubt.score

    def to_json(self) -> dict[str, Any]:
        """Return the values by name."""
        return {"score": self.score, **asdict(self.doubt), "doubtful": self.doubtful}

    @classmethod
    def from_json(cls, tree: Any) -> CaseDoubt | None:
        """Return the object from the result of :meth:`to_json`; None for anything else."""
        try:
            values = [tree[key] for key in ("entropy", "largest_foreground", "disagreement")]
            doubtful = tree["doubtful"]
            found = Doubt(*(None if value is None else float(value) for value in values))
        except (KeyError, TypeError, ValueError):
            return None
        return cls(found, None if doubtful is None else bool(doubtful))


class DoubtSums(NamedTuple):
    """The sums of a slab for the doubt of its case; ``joint`` (pairs, C, C) counts ids by pair of networks."""

    entropy: float
    voxels: int
    largest: float
    joint: Tensor | None

    @classmethod
    def of(cls, every: Sequence[Tensor], maps: Tensor, ids: Tensor, rule: Rule, *, logits: bool) -> DoubtSums:
        """Return the sums of a slab from the logits (K, \\*P) of every network, the deciding maps, and the ids (\\*P).

        The maps are ``logits``, or else probabilities.
        """
        regions = rule.plan.regions is not None
        foreground = ids > 0
        voxels = int(foreground.sum())
        joint = _joint(every, rule) if len(every) > 1 else None
        if voxels == 0:
            return cls(0.0, 0, _largest_foreground(maps, logits, regions), joint)
        found = maps[:, foreground]
        probabilities = activate(found, regions) if logits else found
        return cls(_entropy(probabilities, regions), voxels, 0.0, joint)

    @staticmethod
    def total(parts: Sequence[DoubtSums], rule: Rule) -> Doubt:
        """Return the doubt of a case; a case without slabs is certain background."""
        voxels = sum(part.voxels for part in parts)
        entropy = sum(part.entropy for part in parts) / voxels if voxels else None
        largest = None if voxels else max((part.largest for part in parts), default=0.0)
        joints = [part.joint for part in parts if part.joint is not None]
        return Doubt(entropy, largest, _disagreement(torch.stack(joints).sum(0), rule) if joints else None)


def _entropy(probabilities: Tensor, regions: bool) -> float:
    """Sum the normalised entropies of voxels (K, N)."""
    p = probabilities.double()
    if not regions:
        return float(-(p * p.clamp_min(_LEAST).log()).sum()) / math.log(len(p))
    q = 1 - p
    both = p * p.clamp_min(_LEAST).log2() + q * q.clamp_min(_LEAST).log2()
    return float(-both.mean(0).sum())


def _largest_foreground(maps: Tensor, logits: bool, regions: bool) -> float:
    if regions:
        largest = maps.amax()
        return float(torch.sigmoid(largest) if logits else largest)
    if logits:
        return float(torch.sigmoid((torch.logsumexp(maps[1:], 0) - maps[0]).amax()))
    return float(1 - maps[0].amin())


def _joint(logits: Sequence[Tensor], rule: Rule) -> Tensor:
    """Count, for each pair of networks, the voxels with each combination of class ids in the two masks."""
    classes = len(rule.plan.labels.values)
    masks = torch.stack([rule.decide(each, logits=True).flatten().to(torch.int64) for each in logits])
    masks = masks[:, (masks > 0).any(0)]
    counts = [
        torch.bincount(one * classes + other, minlength=classes * classes)
        for one, other in itertools.combinations(masks, 2)
    ]
    return torch.stack(counts).reshape(-1, classes, classes).cpu()


def _disagreement(joint: Tensor, rule: Rule) -> float:
    plan, counts = rule.plan, joint.numpy()
    ids = [(n,) for n in range(1, plan.outputs)] if plan.regions is None else [r.labels for r in plan.regions]
    dice = []
    for labels in ids:
        rows = counts[:, list(labels)]
        common = rows[:, :, list(labels)].sum((1, 2))
        sizes = rows.sum((1, 2)) + counts[:, :, list(labels)].sum((1, 2))
        dice += (2 * common[sizes > 0] / sizes[sizes > 0]).tolist()
    return 1 - float(np.mean(dice)) if dice else 0.0
