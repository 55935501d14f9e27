"""Losses based on the overlap of predicted and true structures: soft Dice, Tversky, clDice."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.losses.base import CommonOptions, SegmentationLoss
from deconvseg.losses.registry import register_loss
from deconvseg.losses.truth import Truth
from deconvseg.system.collectives import sum_over_ranks

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _BatchOptions(CommonOptions, total=False):
    batch: bool
    background: bool


class OverlapOptions(_BatchOptions, total=False):
    """Options of every overlap loss."""

    smoothing: float


class OverlapLoss(SegmentationLoss):
    """Base class of overlap losses; a subclass implements :meth:`overlap` and :attr:`measure`.

    Args:
        batch: whether to sum over the whole batch (of all processes) before taking the ratio; otherwise the loss is the
            mean over the patches, in which a patch without a structure counts as much as the others.
        smoothing: constant added to numerator and denominator; it gives a structure that is neither present nor
            predicted an overlap of 1.
        background: whether the background of a softmax counts as a structure.
        **common: regions, ignore_id and class_weights of :class:`SegmentationLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import OverlapLoss
        >>> class JaccardLoss(OverlapLoss):
        ...     measure = "soft Jaccard"
        ...
        ...     def overlap(self, probabilities, masks):
        ...         both, either = probabilities * masks, probabilities + masks
        ...         common, sizes = self.totals(both.sum((2, 3)), either.sum((2, 3)))
        ...         return (common + self.smoothing) / (sizes - common + self.smoothing)
        >>> JaccardLoss()(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.5000)

    """

    def __init__(
        self,
        *,
        batch: bool = False,
        smoothing: float = 1e-5,
        background: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        if not 0 < smoothing < math.inf:
            raise InputError(f"smoothing {smoothing}: give a number above 0")
        self.batch, self.smoothing, self.background = batch, smoothing, background

    @property
    @abstractmethod
    def measure(self) -> str:
        """The name of the overlap measure with its main options."""

    @property
    def title(self) -> str:
        """The name of the loss with its main options."""
        return f"{self.measure} over the {'batch' if self.batch else 'patch'}"

    @abstractmethod
    def overlap(self, probabilities: Tensor, masks: Tensor) -> Tensor:
        """Return the overlap (B, N), or (N) of a whole batch, of structures (B, N, \\*S); 1 is perfect."""

    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return one minus the mean overlap."""
        losses = 1 - self.overlap(*self.structures(logits, truth, background=self.background))
        # One mean over all values has smaller rounding errors.
        if self.class_weights is None:
            return losses.mean()
        return self.mean_over_structures(losses, -1, background=self.background).mean()

    def totals(self, *sums: Tensor) -> Sequence[Tensor]:
        """Return sums over voxels (B, N) unchanged or, with ``batch``, summed over the batch (N)."""
        return sum_over_ranks(torch.stack([each.sum(0) for each in sums])).unbind() if self.batch else sums


@register_loss("dice")
class DiceLoss(OverlapLoss):
    """Soft Dice loss: 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s), for probabilities p, masks t and smoothing s.

    Source: Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797), with squares in the denominator.

    Args:
        squared: whether to use sum(p²) instead of sum(p) in the denominator.
        **common: options of :class:`OverlapLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import DiceLoss
        >>> DiceLoss(batch=True)(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.3333)

    """

    def __init__(self, *, squared: bool = False, **common: Unpack[OverlapOptions]) -> None:
        super().__init__(**common)
        self.squared = squared

    @property
    def measure(self) -> str:
        """The name of the overlap measure with its main options."""
        return f"soft Dice{' (squared)' if self.squared else ''}"

    def overlap(self, probabilities: Tensor, masks: Tensor) -> Tensor:
        """Return the soft Dice of each structure."""
        axes = tuple(range(2, masks.ndim))
        common, sizes = self.totals(
            (probabilities * masks).sum(axes),
            (probabilities.square() if self.squared else probabilities).sum(axes) + masks.sum(axes),
        )
        return (2 * common + self.smoothing) / (sizes + self.smoothing)


@register_loss("tversky")
class TverskyLoss(OverlapLoss):
    """Tversky loss: 1 - (TP + s) / (TP + alpha FP + beta FN + s), with soft counts and smoothing s.

    Source: Salehi et al., MLMI 2017 (arXiv:1706.05721). With ``alpha = beta = 0.5`` it equals the soft Dice loss; a
    larger ``beta`` favours sensitivity.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        **common: options of :class:`OverlapLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import TverskyLoss
        >>> TverskyLoss(alpha=0.3, beta=0.7)(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.4118)

    """

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, **common: Unpack[OverlapOptions]) -> None:
        super().__init__(**common)
        if not (alpha >= 0 and beta >= 0 and 0 < alpha + beta < math.inf):
            raise InputError(f"alpha {alpha}, beta {beta}: give weights of 0 or more, not both of 0")
        self.alpha, self.beta = alpha, beta

    @property
    def measure(self) -> str:
        """The name of the overlap measure with its main options."""
        return f"Tversky ({self.alpha:g} FP, {self.beta:g} FN)"

    def overlap(self, probabilities: Tensor, masks: Tensor) -> Tensor:
        """Return the Tversky index of each structure."""
        axes = tuple(range(2, masks.ndim))
        hits, predicted, true = self.totals((probabilities * masks).sum(axes), probabilities.sum(axes), masks.sum(axes))
        wrong = self.alpha * (predicted - hits) + self.beta * (true - hits)
        return (hits + self.smoothing) / (hits + wrong + self.smoothing)


@register_loss("cldice")
class CLDiceLoss(OverlapLoss):
    """Centreline Dice loss: one minus the harmonic mean of topology precision and sensitivity on soft skeletons.

    Source: Shit et al., CVPR 2021 (arXiv:2003.07311), with MONAI's soft skeleton. Precision is the fraction of the
    predicted skeleton inside the true mask; sensitivity is the fraction of the true skeleton inside the prediction. The
    loss is meant for tubular structures such as vessels; the paper adds it to the soft Dice loss.

    Args:
        iterations: thinning iterations of the soft skeleton, at least the largest radius in voxels.
        **common: options of :class:`OverlapLoss`.

    Example:
        >>> import torch
        >>> from deconvseg.losses import CLDiceLoss, DiceLoss, SumLoss
        >>> loss = SumLoss([DiceLoss(), CLDiceLoss(iterations=5)], [0.5, 0.5])
        >>> loss(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8)).shape
        torch.Size([])

    """

    def __init__(self, *, iterations: int = 3, smoothing: float = 1.0, **common: Unpack[_BatchOptions]) -> None:
        super().__init__(smoothing=smoothing, **common)
        if iterations < 0 or iterations != int(iterations):
            raise InputError(f"iterations {iterations}: give a whole number of 0 or more")
        self.iterations = int(iterations)

    @property
    def measure(self) -> str:
        """The name of the overlap measure with its main options."""
        return f"clDice ({self.iterations} thinnings)"

    def overlap(self, probabilities: Tensor, masks: Tensor) -> Tensor:
        """Return the soft clDice of each structure."""
        from monai.losses.cldice import soft_skel

        axes = tuple(range(2, masks.ndim))
        predicted, true = soft_skel(probabilities, self.iterations), soft_skel(masks, self.iterations)
        inside, length, found, wanted = self.totals(
            (predicted * masks).sum(axes), predicted.sum(axes), (true * probabilities).sum(axes), true.sum(axes)
        )
        precision = (inside + self.smoothing) / (length + self.smoothing)
        sensitivity = (found + self.smoothing) / (wanted + self.smoothing)
        return 2 * precision * sensitivity / (precision + sensitivity)
