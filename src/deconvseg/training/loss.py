"""Soft Dice plus cross-entropy, over classes or regions, at one or several resolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationLoss(nn.Module):
    """The sum of soft Dice and cross-entropy (Deconver, section IV-A3).

    Called with logits (B, K, *S), or a list of them, highest resolution first (deep supervision, weights halving), and
    class ids (B, *S). ``regions`` (one tuple of ids per output) makes every output a sigmoid of its own; without it
    the outputs are a softmax over all classes, and Dice leaves the background out.
    """

    def __init__(
        self,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        squared_dice: bool = False,
        batch_dice: bool = False,
    ) -> None:
        from monai.losses import DiceLoss

        super().__init__()
        self.regions = None if regions is None else [tuple(ids) for ids in regions]
        sigmoid = self.regions is not None
        self.dice = DiceLoss(
            include_background=sigmoid,
            softmax=not sigmoid,
            sigmoid=sigmoid,
            squared_pred=squared_dice,
            batch=batch_dice,
        )

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss, in float32."""
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = [0.5**level for level in range(len(levels))]
        total = torch.zeros((), device=labels.device)
        for weight, level in zip(weights, levels, strict=True):
            total = total + weight * self._dice_plus_cross_entropy(level.float(), self._target(labels, level))
        return total / sum(weights)

    def _dice_plus_cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        # Not MONAI's DiceCELoss: it takes several sigmoid outputs for a softmax in its cross-entropy.
        if self.regions is None:
            entropy = F.cross_entropy(logits, target)
        else:
            entropy = F.binary_cross_entropy_with_logits(logits, target)
        dice: Tensor = self.dice(logits, target)
        return dice + entropy

    def _target(self, labels: Tensor, logits: Tensor) -> Tensor:
        if labels.shape[1:] != logits.shape[2:]:
            labels = F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
        if self.regions is None:
            return F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(torch.float32)
        return region_masks(labels, self.regions)


def region_masks(labels: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Return float masks (B, R, *S), one per region (a union of class ids), from class ids (B, *S)."""
    members = [torch.isin(labels, torch.tensor(ids, device=labels.device)) for ids in regions]
    return torch.stack(members, dim=1).to(torch.float32)
