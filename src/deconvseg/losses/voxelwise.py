"""Losses that are means over voxels: cross-entropy, focal, and Hausdorff by distance transforms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from deconvseg.errors import InputError
from deconvseg.losses.base import CommonOptions, SegmentationLoss, mean_over_voxels
from deconvseg.losses.registry import register_loss
from deconvseg.losses.truth import Truth

if TYPE_CHECKING:
    from typing_extensions import Unpack

Entropy = Literal["binary", "softmax"]
ENTROPIES = get_args(Entropy)
# A power of 0 has an infinite gradient if the exponent is below 1.
_LEAST_DOUBT = 1e-12


class _EntropyLoss(SegmentationLoss):
    """A function of the cross-entropy of each voxel, averaged over voxels."""

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the mean over the voxels that are not ignored."""
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


@register_loss("ce")
class CrossEntropyLoss(_EntropyLoss):
    """Cross-entropy of the softmax, or mean binary cross-entropy of the regions' sigmoids, averaged over voxels.

    ``class_weights`` weight each voxel by its class, as in :func:`torch.nn.functional.cross_entropy`, or each region.

    Args:
        entropy: that of regions: ``"binary"``, or ``"softmax"``, -Σ t log softmax over the regions' outputs, which is
            the cross-entropy of MONAI's ``DiceCELoss(sigmoid=True)`` if there are several. Without regions both are
            the softmax of exclusive classes.
        **common: options of :class:`SegmentationLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import CrossEntropyLoss
        >>> CrossEntropyLoss(ignore_id=3)(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.6931)

    """

    def __init__(self, *, entropy: Entropy = "binary", **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        if entropy not in ENTROPIES:
            raise InputError(f"entropy {entropy!r}: choose binary or softmax")
        self.entropy = entropy

    @property
    def title(self) -> str:
        """The name of the loss with its main options."""
        return "cross-entropy of a softmax over the regions" if self._over_regions else "cross-entropy"

    @property
    def _over_regions(self) -> bool:
        # MONAI takes the binary cross-entropy of a single output.
        return self.entropy == "softmax" and self.regions is not None and len(self.regions) > 1

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the mean over the voxels that are not ignored."""
        if not self._over_regions:
            return super().compare(logits, truth)
        # The sum over the regions; class_weights only change their shares of it.
        values = -truth.masks().to(logits.dtype) * F.log_softmax(logits, dim=1)
        return mean_over_voxels(self.mean_over_structures(values, 1) * logits.shape[1], truth.judged)


@register_loss("focal")
class FocalLoss(_EntropyLoss):
    """Focal loss: cross-entropy times (1 - p)^gamma, where p is the probability of the true class.

    Source: Lin et al., ICCV 2017 (arXiv:1708.02002). Well-classified voxels have a small weight; with ``gamma = 0`` it
    equals the cross-entropy.

    Args:
        gamma: exponent of the focusing factor.
        alpha: weight of voxels inside any class or region; the background has 1 - alpha. None means equal weights.
        **common: options of :class:`SegmentationLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import FocalLoss
        >>> FocalLoss(gamma=2)(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.1733)

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
        """The name of the loss with its main options."""
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

    Source: Karimi and Salcudean, IEEE TMI 2020 (arXiv:1904.10030), equation 8, with MONAI's distance transforms in
    voxels, which run on the CPU. The background of a softmax is excluded. The paper adds the loss to the soft Dice
    loss.

    Args:
        alpha: exponent of the distances.
        **common: options of :class:`SegmentationLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import DiceLoss, HausdorffLoss, SumLoss
        >>> loss = SumLoss([DiceLoss(), HausdorffLoss()], [1.0, 0.1])
        >>> loss(torch.rand(1, 2, 8, 8), torch.ones(1, 8, 8)).shape
        torch.Size([])

    """

    def __init__(self, *, alpha: float = 2.0, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha {alpha}: give a number above 0")
        self.alpha = alpha

    @property
    def title(self) -> str:
        """The name of the loss with its main options."""
        return f"Hausdorff (distances to the power {self.alpha:g})"

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the mean over structures and the voxels that are not ignored."""
        probabilities, masks = self.structures(logits, truth)
        errors = (probabilities - masks).square() * (self._distances(probabilities) + self._distances(masks))
        return mean_over_voxels(self.mean_over_structures(errors, 1), truth.judged)

    def _distances(self, maps: Tensor) -> Tensor:
        """Return the distance of each voxel to the boundary of a structure, to the power ``alpha``."""
        from monai.losses.hausdorff_loss import HausdorffDTLoss

        transform = HausdorffDTLoss().distance_field
        fields = [transform(channel[:, None].detach()) for channel in maps.unbind(1)]
        return torch.cat(fields, dim=1).to(maps.dtype) ** self.alpha
