"""The sweeps for rank one, where they are a power iteration; shapes as in the reference."""

import torch
from torch import Tensor

from deconvseg.ops.nmf.reference import ratio

# X Xᵀ spares each further sweep two products with X, and is worth making for so many rows of X for each of them.
_ROWS_PER_SWEEP = 8


def factorise(x: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Sweep ``iterations`` times; F sums to one, also in between, where its length makes no difference."""
    f = _to_unit_sum(x @ start.expand(*x.shape[:-2], *start.shape))
    if x.shape[-2] <= _ROWS_PER_SWEEP * (iterations - 1):
        gram = x @ x.mT
        for _ in range(iterations - 1):
            f = _to_unit_sum(gram @ f)
    else:
        for _ in range(iterations - 1):
            f = _to_unit_sum(x @ (x.mT @ f))
    return f, ratio(x.mT @ f, f.square().sum(-2, keepdim=True))


def _to_unit_sum(f: Tensor) -> Tensor:
    return ratio(f, torch.sum(f, -2, keepdim=True))
