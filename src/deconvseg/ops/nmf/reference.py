"""Nonnegative matrix factorisation in plain PyTorch: the sweeps as they are defined, and nothing else.

Shapes: ``x`` (\\*B, M, N), ``start`` (N, R), factors (\\*B, M, R) and (\\*B, N, R).
"""

import torch
from torch import Tensor

from deconvseg.ops.nmf.places import Windows, from_places, matrices_of, to_places


def factorise(x: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Sweep ``iterations`` times over the columns of F, then those of G; those of F sum to one in the end."""
    f = x.new_zeros(*x.shape[:-1], start.shape[1])
    g = start.expand(*x.shape[:-2], *start.shape)
    for _ in range(iterations):
        f = _refine(f, x @ g, g.mT @ g)
        g = _refine(g, x.mT @ f, f.mT @ f)
    scale = f.sum(-2, keepdim=True)
    return ratio(f, scale), g * scale


def _refine(factor: Tensor, product: Tensor, gram: Tensor) -> Tensor:
    """Move each column in turn to its minimum over what is not negative, the others held."""
    columns = list(factor.unbind(-1))
    for r in range(len(columns)):
        unexplained = product[..., r]
        for other in range(len(columns)):
            if other != r:
                unexplained = unexplained - columns[other] * gram[..., other, r].unsqueeze(-1)
        # Not `relu`: at 0 this one lets gradients pass, as rank one does, where nothing is ever negative.
        columns[r] = ratio(unexplained.clamp(min=0), gram[..., r, r].unsqueeze(-1))
    return torch.stack(columns, dim=-1)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; where the denominator is too small to divide by, give 0 with zero gradients."""
    positive = denominator >= torch.finfo(denominator.dtype).tiny
    # The inner `where` keeps the division, hence its gradients, finite at the entries that the outer one drops.
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def windowed(x: Tensor, start: Tensor, windows: Windows, iterations: int) -> Tensor:
    """Average, over the shifts, the image whose windows are the approximations of those of the shifted one."""
    axes = tuple(range(1, x.ndim - 1))
    rows = x.movedim(1, -1)
    total = torch.zeros_like(rows)
    for shift in windows.shifts:
        places = to_places(torch.roll(rows, shift, axes), windows)
        f, g = factorise(matrices_of(places), start, iterations)
        explained = from_places((g @ f.mT).reshape(places.shape))
        total = total + torch.roll(explained, [-step for step in shift], axes)
    return (total / len(windows.shifts)).movedim(-1, 1)
