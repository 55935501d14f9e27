"""Nonnegative matrix factorisation in plain PyTorch: the sweeps as defined.

Shapes: ``x`` (\\*B, M, N), ``start`` (N, R), factors (\\*B, M, R) and (\\*B, N, R).
"""

import torch
from torch import Tensor

from deconvseg.ops.nmf.places import Windows, from_places, matrices_of, to_places


def factorise(x: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Sweep ``iterations`` times over the columns of F, then of G; finally scale the columns of F to sum one."""
    f = x.new_zeros(*x.shape[:-1], start.shape[1])
    g = start.expand(*x.shape[:-2], *start.shape)
    for _ in range(iterations):
        f = _refine(f, x @ g, g.mT @ g)
        g = _refine(g, x.mT @ f, f.mT @ f)
    scale = f.sum(-2, keepdim=True)
    return ratio(f, scale), g * scale


def _refine(factor: Tensor, product: Tensor, gram: Tensor) -> Tensor:
    """Set each column in turn to its nonnegative minimum, with the others fixed."""
    columns = list(factor.unbind(-1))
    for r in range(len(columns)):
        unexplained = product[..., r]
        for other in range(len(columns)):
            if other != r:
                unexplained = unexplained - columns[other] * gram[..., other, r].unsqueeze(-1)
        # Neither `relu` nor `clamp`, whose gradient at 0 depends on the version of PyTorch: like rank one, which needs
        # no maximum, this passes gradients through at 0.
        columns[r] = ratio(torch.where(unexplained < 0, 0.0, unexplained), gram[..., r, r].unsqueeze(-1))
    return torch.stack(columns, dim=-1)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; where the denominator is below the smallest normal number, return 0 with zero gradients."""
    positive = denominator >= torch.finfo(denominator.dtype).tiny
    # The inner `where` keeps the division and its gradients finite at the entries that the outer one drops.
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def windowed(x: Tensor, start: Tensor, windows: Windows, iterations: int) -> Tensor:
    """Return the mean over the shifts of the image with every window replaced by its approximation."""
    axes = tuple(range(1, x.ndim - 1))
    rows = x.movedim(1, -1)
    total = torch.zeros_like(rows)
    for shift in windows.shifts:
        places = to_places(torch.roll(rows, shift, axes), windows)
        f, g = factorise(matrices_of(places), start, iterations)
        explained = from_places((g @ f.mT).reshape(places.shape))
        total = total + torch.roll(explained, [-step for step in shift], axes)
    return (total / len(windows.shifts)).movedim(-1, 1)
