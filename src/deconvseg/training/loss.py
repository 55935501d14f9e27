"""Soft Dice plus cross-entropy, over classes or regions, at one or several resolutions, on one or several processes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvseg.system.collectives import rank_count, sum_over_ranks

# Keeps the Dice of a structure that is neither there nor predicted at 1.
_SMOOTHING = 1e-5


class SegmentationLoss(nn.Module):
    """The sum of soft Dice and cross-entropy (Deconver, section IV-A3).

    Called with logits (B, K, *S), or a list of them, highest resolution first (deep supervision, weights halving), and
    class ids (B, *S). ``regions`` (one tuple of ids per output) makes every output a sigmoid of its own; without it
    the outputs are a softmax over all classes, and Dice leaves the background out. Voxels with the id ``ignore_id``
    count nowhere. ``batch_dice`` takes the Dice of the whole batch at once, of all processes' batches together.

    Of several processes each returns a loss of its own; their mean is that of one process with the joint batch, in
    value and in gradient.
    """

    def __init__(
        self,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        squared_dice: bool = False,
        batch_dice: bool = False,
        ignore_id: int | None = None,
    ) -> None:
        super().__init__()
        self.regions = None if regions is None else [tuple(ids) for ids in regions]
        self.squared_dice = squared_dice
        self.batch_dice = batch_dice
        self.ignore_id = ignore_id

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss, in float32."""
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = [0.5**level for level in range(len(levels))]
        total = torch.zeros((), device=labels.device)
        for weight, level in zip(weights, levels, strict=True):
            total = total + weight * self._dice_plus_cross_entropy(level.float(), _resized(labels, level))
        return total / sum(weights)

    def _dice_plus_cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        judged = None if self.ignore_id is None else labels != self.ignore_id
        if self.regions is None:
            known = labels if judged is None else labels.where(judged, 0)
            entropy = F.cross_entropy(logits, known, reduction="none")
            target = F.one_hot(known, logits.shape[1]).movedim(-1, 1)[:, 1:].to(torch.float32)
            probabilities = logits.softmax(1)[:, 1:]
        else:
            target = region_masks(labels, self.regions)
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
            probabilities = logits.sigmoid()
        return self._dice(probabilities, target, judged) + _mean(entropy, judged)

    def _dice(self, probabilities: Tensor, target: Tensor, judged: Tensor | None) -> Tensor:
        if judged is not None:
            probabilities, target = probabilities * judged[:, None], target * judged[:, None]
        axes = tuple(range(2, target.ndim))
        common = (probabilities * target).sum(axes)
        sizes = (probabilities.square() if self.squared_dice else probabilities).sum(axes) + target.sum(axes)
        if self.batch_dice:
            common, sizes = sum_over_ranks(torch.stack([common.sum(0), sizes.sum(0)]))
        return (1 - (2 * common + _SMOOTHING) / (sizes + _SMOOTHING)).mean()


def region_masks(labels: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Return float masks (B, R, *S), one per region (a union of class ids), from class ids (B, *S)."""
    members = [torch.isin(labels, torch.tensor(ids, device=labels.device)) for ids in regions]
    return torch.stack(members, dim=1).to(torch.float32)


def _mean(values: Tensor, judged: Tensor | None) -> Tensor:
    """Return the mean over the judged voxels of all processes, as this process's share of it."""
    if judged is None:
        return values.mean()
    count = sum_over_ranks(judged.sum().to(values.dtype)).clamp_min(1)
    return rank_count() * (values * judged).sum() / count


def _resized(labels: Tensor, logits: Tensor) -> Tensor:
    if labels.shape[1:] == logits.shape[2:]:
        return labels
    return F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
