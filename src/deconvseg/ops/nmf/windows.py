"""Windowed factorisation of a few windows at a time, which stay in a CPU's cache; the gradient recomputes it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.derivatives import is_differentiated_or_batched
from deconvseg.ops.nmf import rank_one, reference
from deconvseg.ops.nmf.places import Windows, extend, fold, matrices_of, shifted, to_places
from deconvseg.ops.precision import without_autocast

# Elements of the image that are processed at a time: 4 MiB on a CPU, many windows elsewhere.
_ELEMENTS = {"cpu": 2**20}
_ELEMENTS_ELSEWHERE = 2**26


def factorise(x: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Factorise matrices with the reference or, for rank one, with the faster power iteration."""
    if start.shape[1] == 1:
        return rank_one.factorise(x, start, iterations)
    return reference.factorise(x, start, iterations)


def by_parts(x: Tensor, start: Tensor, windows: Windows, iterations: int) -> Tensor:
    """Return the same as :func:`reference.windowed`, part by part; differentiable with respect to ``x``."""
    explained: Tensor = _ByParts.apply(x, start, windows, iterations)  # type: ignore[no-untyped-call]
    return explained


class _ByParts(torch.autograd.Function):
    """Saves only the image, and factorises again in the backward pass, part by part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, windows: Windows, iterations: int) -> Tensor:
        ctx.save_for_backward(x, start)
        ctx.windows, ctx.iterations = windows, iterations
        rows = extend(x.movedim(1, -1), windows.margins)
        total = torch.zeros_like(rows)
        for places, sums in _parts(windows, rows, total):
            f, g = factorise(matrices_of(places), start, iterations)
            axes = len(windows.size)
            lead, inside = places.shape[: 2 + axes], places.shape[2 + axes : -1]
            for column, shares in zip(f.unbind(-1), g.unbind(-1), strict=True):
                sums.addcmul_(shares.view(*lead, *inside, 1), column.view(*lead, *[1] * axes, -1))
        return (fold(total, windows.margins) / len(windows.shifts)).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, start = ctx.saved_tensors
        windows, iterations = ctx.windows, ctx.iterations
        if is_differentiated_or_batched(grad):
            differentiable = torch.is_grad_enabled()
            with torch.enable_grad():
                again = reference.windowed(x, start, windows, iterations)
            (of_x,) = torch.autograd.grad(again, x, grad, create_graph=differentiable)
            return of_x, None, None, None
        margins = windows.margins
        rows, grads = (extend(image.movedim(1, -1), margins) for image in (x, grad))
        total = torch.zeros_like(rows)
        with without_autocast(x.device.type):
            for places, above, sums in _parts(windows, rows, grads, total):
                with torch.enable_grad():
                    matrices = matrices_of(places).requires_grad_()
                    f, g = factorise(matrices, start, iterations)
                    (below,) = torch.autograd.grad(f @ g.mT, matrices, matrices_of(above))
                sums.add_(below.mT.reshape(places.shape))
        return (fold(total, margins) / len(windows.shifts)).movedim(-1, 1), None, None, None


def _parts(windows: Windows, *extended: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield matching views of several images: for each shift, some samples and rows of windows at a time."""
    limit = _ELEMENTS.get(extended[0].device.type, _ELEMENTS_ELSEWHERE)
    for shift in windows.shifts:
        views = [to_places(shifted(image, windows.margins, shift), windows) for image in extended]
        in_row = views[0][0, 0].numel()
        rows = min(max(1, limit // in_row), views[0].shape[1])
        samples = max(1, limit // (in_row * rows))
        for some in zip(*(torch.split(view, samples, 0) for view in views), strict=True):
            yield from zip(*(torch.split(view, rows, 1) for view in some), strict=True)
