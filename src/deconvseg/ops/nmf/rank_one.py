"""Factorisation of rank one, where the sweeps are a power iteration; same shapes as in the reference."""

import torch
from torch import Tensor

from deconvseg.ops.nmf.reference import ratio

# X Xᵀ saves two products with X per further sweep, and pays off up to this many rows of X per further sweep.
_ROWS_PER_SWEEP = 8


def factorise(x: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Sweep ``iterations`` times; F is scaled to sum one after each sweep, which does not change the result."""
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
