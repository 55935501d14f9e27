"""Losses that are a mean over voxels: cross-entropy, focal, Hausdorff by distance transforms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from deconvseg.errors import InputError
from deconvseg.losses.base import CommonOptions, SegmentationLoss, mean_over_voxels
from deconvseg.losses.registry import register_loss
from deconvseg.losses.truth import Truth

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The power of 0 has no finite gradient where the exponent is below 1.
_LEAST_DOUBT = 1e-12


@register_loss("ce")
class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy of the softmax, or the mean binary cross-entropy of the regions' sigmoids, over the voxels.

    Options are those of :class:`SegmentationLoss`; with ``class_weights`` a voxel counts as much as its class, as in
    :func:`torch.nn.functional.cross_entropy`, and a region as much as its weight.

    Example::

        loss = CrossEntropyLoss(ignore_id=3)
        value = loss(logits, labels)  # logits (B, K, *S), class ids (B, *S)

    """

    @property
    def title(self) -> str:
        """The loss in words."""
        return "cross-entropy"

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the mean over the voxels that count."""
        if self.regions is None:
            values = self.modulated(F.cross_entropy(logits, truth.labels, reduction="none"), truth)
        else:
            masks = truth.masks().to(logits.dtype)
            values = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
            values = self.mean_over_structures(self.modulated(values, truth), 1)
        return mean_over_voxels(values, self._voxel_weights(values, truth))

    def modulated(self, entropy: Tensor, truth: Truth) -> Tensor:
        """Return the loss of each voxel from its cross-entropy, (B, \\*S) or of each region (B, R, \\*S)."""
        return entropy

    def _voxel_weights(self, values: Tensor, truth: Truth) -> Tensor | None:
        if self.class_weights is None or self.regions is not None:
            return truth.judged
        weights = values.new_tensor(self.class_weights)[truth.labels]
        return weights if truth.judged is None else weights * truth.judged


@register_loss("focal")
class FocalLoss(CrossEntropyLoss):
    """Focal loss: cross-entropy times (1 - p)^gamma, where p is the probability of the truth.

    Lin et al., ICCV 2017 (arXiv:1708.02002). Voxels that are already right count little; with ``gamma = 0`` it is the
    cross-entropy.

    Args:
        gamma: how fast the weight of voxels falls that are nearly right.
        alpha: weight of voxels inside any class or region, 1 - alpha of the background; None weighs them alike.
        **common: those of :class:`SegmentationLoss`.

    Example::

        loss = FocalLoss(gamma=2)
        value = loss(logits, labels)

    """

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = None, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        if not 0 <= gamma < math.inf:
            raise InputError(f"gamma {gamma}: give 0 or more")
        if alpha is not None and not 0 <= alpha <= 1:
            raise InputError(f"alpha {alpha}: give a number from 0 to 1")
        self.gamma, self.alpha = gamma, alpha

    @property
    def title(self) -> str:
        """The loss in words."""
        return f"focal loss (gamma {self.gamma:g})"

    def modulated(self, entropy: Tensor, truth: Truth) -> Tensor:
        """Return the focal loss of each voxel."""
        values = (-torch.expm1(-entropy)).clamp_min(_LEAST_DOUBT) ** self.gamma * entropy
        if self.alpha is None:
            return values
        inside = (truth.labels if self.regions is None else truth.masks()) > 0
        return values * torch.where(inside, self.alpha, 1 - self.alpha)


@register_loss("hausdorff")
class HausdorffLoss(SegmentationLoss):
    """Hausdorff loss: squared errors times the distances of a voxel to both boundaries, to the power ``alpha``.

    Karimi and Salcudean, IEEE TMI 2020 (arXiv:1904.10030), equation 8, with MONAI's distance transforms, in voxels,
    without the background of a softmax. The paper adds it to the soft Dice loss. The transforms run on the CPU.

    Args:
        alpha: the power of the distances.
        **common: those of :class:`SegmentationLoss`.

    Example::

        loss = SumLoss([DiceLoss(), HausdorffLoss()], [1.0, 0.1])
        value = loss(logits, labels)  # 2D or 3D

    """

    def __init__(self, *, alpha: float = 2.0, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha {alpha}: give a number above 0")
        self.alpha = alpha

    @property
    def title(self) -> str:
        """The loss in words."""
        return f"Hausdorff (distances to the power {self.alpha:g})"

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the mean over structures and the voxels that count."""
        probabilities, masks = self.structures(logits, truth)
        errors = (probabilities - masks).square() * (self._distances(probabilities) + self._distances(masks))
        return mean_over_voxels(self.mean_over_structures(errors, 1), truth.judged)

    def _distances(self, maps: Tensor) -> Tensor:
        """Return for each voxel the distance to the boundary of a structure, to the power ``alpha``."""
        from monai.losses.hausdorff_loss import HausdorffDTLoss

        transform = HausdorffDTLoss().distance_field
        fields = [transform(channel[:, None].detach()) for channel in maps.unbind(1)]
        return torch.cat(fields, dim=1).to(maps.dtype) ** self.alpha
