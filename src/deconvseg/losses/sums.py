"""Sums of losses, and deep supervision."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.losses.base import CommonOptions, SegmentationLoss, checked_weights
from deconvseg.losses.overlap import DiceLoss
from deconvseg.losses.registry import register_loss
from deconvseg.losses.truth import Truth, resized
from deconvseg.losses.voxelwise import CrossEntropyLoss, Entropy


class SumLoss(SegmentationLoss):
    """Weighted sum of losses with the same regions and ignored voxels.

    Args:
        parts: losses of the sum.
        weights: factor of each loss; 1 by default.

    Example:
        >>> from deconvseg.losses import DiceLoss, FocalLoss, SumLoss
        >>> SumLoss([DiceLoss(batch=True), FocalLoss()], [1.0, 0.5]).title
        'soft Dice over the batch + 0.5 x focal loss (gamma 2)'

    """

    def __init__(self, parts: Sequence[SegmentationLoss], weights: Sequence[float] | None = None) -> None:
        if not parts or any((part.regions, part.ignore_id) != (parts[0].regions, parts[0].ignore_id) for part in parts):
            raise InputError("a sum of losses needs parts, all with the same regions and ignore_id")
        super().__init__(regions=parts[0].regions, ignore_id=parts[0].ignore_id)
        self._parts = nn.ModuleList(parts)
        self.weights = checked_weights([1.0] * len(parts) if weights is None else weights, "weights")
        if len(self.weights) != len(parts):
            raise InputError(f"weights {self.weights}: give one to each of {len(parts)} losses")

    @property
    def parts(self) -> list[SegmentationLoss]:
        """The losses of the sum."""
        return [cast("SegmentationLoss", part) for part in self._parts]

    @property
    def title(self) -> str:
        """The names of the losses with their factors."""
        factors = ["" if weight == 1 else f"{weight:g} x " for weight in self.weights]
        return " + ".join(f"{factor}{part.title}" for factor, part in zip(factors, self.parts, strict=True))

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the weighted sum; the losses share the masks of ``truth``."""
        values = [weight * part.compare(logits, truth) for weight, part in zip(self.weights, self.parts, strict=True)]
        return sum(values[1:], values[0])

    def check_outputs(self, outputs: int) -> None:
        """Raise :class:`InputError` for a number of outputs that does not match the regions or weights of a part."""
        for part in self.parts:
            part.check_outputs(outputs)


@register_loss("dice_ce")
class DiceCELoss(SumLoss):
    """Sum of the soft Dice loss and the cross-entropy, the default loss of training (Deconver, section IV-A3).

    Args:
        squared: see :class:`DiceLoss`.
        batch: see :class:`OverlapLoss`; like smoothing and background, it applies to the soft Dice loss.
        smoothing: see :class:`OverlapLoss`.
        background: see :class:`OverlapLoss`.
        dice_weight: factor of the soft Dice loss.
        ce_weight: factor of the cross-entropy.
        entropy: see :class:`CrossEntropyLoss`.
        regions: see :class:`SegmentationLoss`; like ignore_id and class_weights, it applies to both parts.
        ignore_id: see :class:`SegmentationLoss`.
        class_weights: see :class:`SegmentationLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import DiceCELoss
        >>> DiceCELoss(regions=[(1, 2), (2,)])(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8)).shape
        torch.Size([])

    """

    def __init__(
        self,
        *,
        squared: bool = False,
        batch: bool = False,
        smoothing: float = 1e-5,
        background: bool = False,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        entropy: Entropy = "binary",
        regions: Sequence[Sequence[int]] | None = None,
        ignore_id: int | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        common: CommonOptions = {"regions": regions, "ignore_id": ignore_id, "class_weights": class_weights}
        dice = DiceLoss(squared=squared, batch=batch, smoothing=smoothing, background=background, **common)
        super().__init__([dice, CrossEntropyLoss(entropy=entropy, **common)], [dice_weight, ce_weight])


class DeepSupervision(nn.Module):
    """Weighted mean of a loss over the heads of a network; the weight halves with each lower resolution.

    It is called with logits (B, K, \\*S), or a list of logits with the highest resolution first, and class ids
    (B, \\*S), which are resampled to each resolution by nearest-neighbour interpolation.

    Example:
        >>> import torch
        >>> from deconvseg.losses import DeepSupervision, DiceLoss
        >>> loss = DeepSupervision(DiceLoss())
        >>> loss([torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)], torch.ones(1, 8, 8))
        tensor(0.3333)

    """

    def __init__(self, loss: SegmentationLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss, in float32."""
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = [0.5**level for level in range(len(levels))]
        total = torch.zeros((), device=labels.device)
        for weight, level in zip(weights, levels, strict=True):
            total = total + weight * self.loss(level, resized(labels, level.shape[2:]))
        return total / sum(weights)
