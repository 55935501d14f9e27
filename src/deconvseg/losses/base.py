"""Base class of the losses: regions or classes, ignored voxels, class weights, float32."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.losses.truth import Truth
from deconvseg.system.collectives import rank_count, sum_over_ranks


class CommonOptions(TypedDict, total=False):
    """Options of every loss."""

    regions: Sequence[Sequence[int]] | None
    ignore_id: int | None
    class_weights: Sequence[float] | None


class SegmentationLoss(nn.Module, ABC):
    """Base class of the losses: a float32 scalar from logits (B, K, \\*S) and class ids (B, \\*S).

    A subclass implements :meth:`compare` and :attr:`title`. Half-precision logits are converted to float32. In
    distributed training each process returns its own loss; the mean over the processes equals, in value and gradient,
    the loss of one process with the joint batch.

    Args:
        regions: one tuple of class ids per output; each output is then a separate sigmoid. By default the outputs are a
            softmax over all classes, background first.
        ignore_id: id of ignored voxels.
        class_weights: weight of each output (for softmax including the background) in the mean over classes or regions;
            only the ratios matter.

    Example:
        >>> import torch
        >>> from deconvseg.losses import SegmentationLoss
        >>> class SquaredError(SegmentationLoss):
        ...     title = "squared error"
        ...
        ...     def compare(self, logits, truth):
        ...         probabilities, masks = self.structures(logits, truth)
        ...         return (probabilities - masks).square().mean()
        >>> SquaredError()(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8))
        tensor(0.2500)

    """

    def __init__(
        self,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        ignore_id: int | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.regions = None if regions is None else [tuple(ids) for ids in regions]
        self.ignore_id = ignore_id
        self.class_weights = None if class_weights is None else checked_weights(class_weights, "class_weights")

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of the loss with its main options."""

    @abstractmethod
    def compare(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the loss of logits in float32 (or float64)."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, \\*S) against class ids (B, \\*S)."""
        if logits.ndim < 3 or logits.shape[:1] + logits.shape[2:] != labels.shape:
            raise InputError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: a loss needs logits (B, K, *S) and "
                "class ids (B, *S)"
            )
        self.check_outputs(logits.shape[1])
        truth = Truth(labels, logits.shape[1], self.regions, self.ignore_id)
        return self.compare(logits if logits.dtype == torch.float64 else logits.float(), truth)

    def check_outputs(self, outputs: int) -> None:
        """Raise :class:`InputError` for a number of outputs that does not match the regions or the weights."""
        for name, given in (("regions", self.regions), ("class_weights", self.class_weights)):
            if given is not None and len(given) != outputs:
                raise InputError(f"{name}: {len(given)} are given for {outputs} outputs of the network; give one each")
        if self.regions is None and outputs < 2:
            raise InputError("a softmax over one output is the background alone; give `regions=[(1,)]` for a sigmoid")

    def structures(self, logits: Tensor, truth: Truth, *, background: bool = False) -> tuple[Tensor, Tensor]:
        """Return probabilities and masks (B, N, \\*S) of the regions, or of the classes with or without background.

        Both are 0 in ignored voxels.
        """
        probabilities = logits.softmax(1)[:, 0 if background else 1 :] if self.regions is None else logits.sigmoid()
        masks = truth.masks(background)
        if truth.judged is None:
            return probabilities, masks
        return probabilities * truth.judged[:, None], masks * truth.judged[:, None]

    def mean_over_structures(self, values: Tensor, axis: int, *, background: bool = False) -> Tensor:
        """Return the weighted mean along the axis of the regions, or of the classes with or without background."""
        if self.class_weights is None:
            return values.mean(axis)
        first = 1 if self.regions is None and not background else 0
        weights = self.class_weights[first:]
        if not any(weights):
            raise InputError(f"class_weights {self.class_weights}: no class but the background has a weight above 0")
        # Not a matrix product, which autocast would compute in half precision.
        return (values.movedim(axis, -1) * values.new_tensor(weights)).sum(-1) / sum(weights)


def checked_weights(given: Sequence[float | str], name: str) -> list[float]:
    """Return weights as floats; :class:`InputError` if one is negative or not a number, or if all are 0."""
    weights = [math.nan if isinstance(weight, str) else float(weight) for weight in given]
    if not (weights and min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise InputError(f"{name} {list(given)}: give one of 0 or more each, not all of 0")
    return weights


def mean_over_voxels(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return this process's share of the weighted mean over the voxels (B, \\*S) of all processes.

    The result is 0 if all weights are 0.
    """
    if weights is None:
        return values.mean()
    total = sum_over_ranks(weights.sum().to(values.dtype))
    return rank_count() * (values * weights).sum() / (total + (total == 0))
