"""The loss of version 0.1.0's training as it was before there were others: what the default must equal bit for bit."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1e-5


def old_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    regions: Sequence[Sequence[int]] | None,
    squared: bool,
    batch: bool,
    ignore_id: int | None,
) -> Tensor:
    weights = [0.5**level for level in range(len(logits))]
    total = torch.zeros(())
    for weight, level in zip(weights, logits, strict=True):
        ids = labels
        if labels.shape[1:] != level.shape[2:]:
            ids = F.interpolate(labels[:, None].float(), level.shape[2:], mode="nearest-exact")[:, 0].long()
        total = total + weight * _at_one_level(level.float(), ids, regions, squared, batch, ignore_id)
    return total / sum(weights)


def _at_one_level(
    logits: Tensor,
    labels: Tensor,
    regions: Sequence[Sequence[int]] | None,
    squared: bool,
    batch: bool,
    ignore_id: int | None,
) -> Tensor:
    judged = None if ignore_id is None else labels != ignore_id
    if regions is None:
        known = labels if judged is None else labels.where(judged, 0)
        entropy = F.cross_entropy(logits, known, reduction="none")
        target = F.one_hot(known, logits.shape[1]).movedim(-1, 1)[:, 1:].to(torch.float32)
        probabilities = logits.softmax(1)[:, 1:]
    else:
        target = torch.stack([torch.isin(labels, torch.tensor(ids)) for ids in regions], dim=1).to(torch.float32)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        probabilities = logits.sigmoid()
    mean = entropy.mean() if judged is None else (entropy * judged).sum() / judged.sum().to(torch.float32).clamp_min(1)
    if judged is not None:
        probabilities, target = probabilities * judged[:, None], target * judged[:, None]
    axes = tuple(range(2, target.ndim))
    common = (probabilities * target).sum(axes)
    sizes = (probabilities.square() if squared else probabilities).sum(axes) + target.sum(axes)
    if batch:
        common, sizes = torch.stack([common.sum(0), sizes.sum(0)])
    return (1 - (2 * common + SMOOTHING) / (sizes + SMOOTHING)).mean() + mean
