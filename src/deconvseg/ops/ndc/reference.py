"""Nonnegative deconvolution in plain PyTorch: the equations of Deconver (arXiv 2504.00302).

Shapes: ``x`` (B, C, \\*S), ``source`` (B, E, \\*S), ``filters`` (C, E/groups, \\*K) with every K odd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def adjoint_filters(filters: Tensor, groups: int) -> Tensor:
    """Return V⁻ of Eq. 3, (E, C/groups, \\*K): image and source channels swapped in each group, all axes flipped."""
    channels, sources, *kernel = filters.shape
    grouped = filters.reshape(groups, channels // groups, sources, *kernel)
    transposed = grouped.transpose(1, 2).reshape(groups * sources, channels // groups, *kernel)
    return transposed.flip(tuple(range(2, filters.ndim)))


def correlate(x: Tensor, adjoint: Tensor, groups: int, eps: float = 0.0) -> Tensor:
    """Return X ∗ V⁻ + ε of Eq. 7, with zero padding.

    ε is the bias of the convolution, because ONNX optimisers remove an addition ``x + c`` if c is within 1e-8 of zero.
    """
    padding = [size // 2 for size in adjoint.shape[2:]]
    bias = adjoint.new_full(adjoint.shape[:1], eps) if eps > 0 else None
    return _CONV[adjoint.ndim - 2](x, adjoint, bias, padding=padding, groups=groups)


def reconstruct(source: Tensor, adjoint: Tensor, groups: int) -> Tensor:
    """Return S ∗ V of Eq. 1.

    It is computed as the adjoint of :func:`correlate`, a transposed convolution with V⁻. This equals a convolution with
    V, but on a CPU the gradient of the filters is two to three times faster.
    """
    padding = [size // 2 for size in adjoint.shape[2:]]
    return _CONV_TRANSPOSE[adjoint.ndim - 2](source, adjoint, padding=padding, groups=groups)


def update(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Tensor:
    """Return one multiplicative update: Eq. 7 or, if ``eps`` is 0, Eq. 3 with 0/0 = 0 as in the appendix."""
    adjoint = adjoint_filters(filters, groups)
    numerator = correlate(x, adjoint, groups, eps)
    denominator = correlate(reconstruct(source, adjoint, groups), adjoint, groups, eps)
    if eps > 0:
        return source * (numerator / denominator)
    positive = denominator > 0
    # The inner `where` keeps the division and its gradients finite at the entries that the outer one drops.
    ratio = numerator / torch.where(positive, denominator, 1.0)
    return source * torch.where(positive, ratio, 0.0)


def error(x: Tensor, source: Tensor, filters: Tensor, groups: int) -> Tensor:
    """Return ‖X − S ∗ V‖²_F of Eq. 2, one value per sample."""
    reconstruction = reconstruct(source, adjoint_filters(filters, groups), groups)
    return (x - reconstruction).square().flatten(1).sum(1)
