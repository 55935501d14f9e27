"""Deformable upsampling and its gradients on a GPU by Triton (DTC, arXiv 2601.17939, Eq. 1 and 2).

All arithmetic is in float32. Many output points may sample one input pixel, so the gradient of the features is
scattered with atomic additions, whose order varies on a GPU. The kernels add integers, whose sum does not depend on the
order, so results are reproducible bit for bit. The unit of the integers is a power of two for each channel of each
sample. It is below the resolution of float32 (at most 2^-36 of the channel's largest gradient for 128^3 output points),
yet large enough that all output points may fall on one pixel without overflow. A non-finite gradient makes the result
of its channel NaN in that sample. A NaN position, which gives NaN in the forward pass, contributes nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops import triton_support as support
from deconvseg.ops.layout import is_channels_last
from deconvseg.ops.shapes import finer_size

# Output points per program, and lanes along the channels: 256 elements, two for each thread of four warps.
POINTS, CHANNELS_LAST_POINTS, CHANNELS_LAST_LANES = 256, 8, 32

# Channels per program: enough to amortise the positions, few enough for many programs.
SPAN = 64


def decline(features: Tensor, offsets: Tensor, weights: Tensor | None) -> str | None:
    """Return why the kernels cannot take these tensors, in one line, or ``None``."""
    if features.ndim not in (4, 5):
        return f"{features.ndim - 2} spatial axes: 2 or 3 are possible"
    return support.decline(*(tensor for tensor in (features, offsets, weights) if tensor is not None))


def forward(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    scale: tuple[int, ...],
    receptive_field: float,
    base: Tensor | None = None,
) -> Tensor:
    """Sample ``features`` (B, C, \\*S) at shifted points (Eq. 1, 2) and add ``base``, (B, C, \\*(S * scale)) or None.

    Returns (B, C, \\*(S * scale)) in the type and memory format of ``features``.
    """
    scaled = torch.Size(finer_size(features.shape[2:], scale))
    out = support.empty_image(features, features.shape[1], features.dtype, scaled)
    if not out.numel():
        return out
    from deconvseg.ops.deformable_upsample import triton_kernels as kernels

    weighted, based = weights is not None, base is not None
    weights = offsets if weights is None else weights
    base = out if base is None else base
    tensors = (features, offsets, weights, base, out)
    layout = _layout(out, tensors)
    spans = -(-features.shape[1] // SPAN)
    with support.device_of(features):
        kernels.forward_kernel[_grid(out, layout, spans)](
            *(part for tensor in tensors for part in (tensor, support.strides(tensor))),
            features.shape[1], *_geometry(features, out, receptive_field), spans, SPAN,
            AXES=len(scale), WEIGHTED=weighted, BASED=based, **layout,
        )  # fmt: skip
    return out


def backward(
    grad: Tensor,
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    scale: tuple[int, ...],
    receptive_field: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of features, offsets and weights (``None`` without weights) from that of :func:`forward`.

    The gradient of ``base`` is ``grad`` itself.
    """
    if not grad.numel():
        unmoved = None if weights is None else torch.zeros_like(weights)
        return torch.zeros_like(features), torch.zeros_like(offsets), unmoved
    from deconvseg.ops.deformable_upsample import triton_kernels as kernels

    batch, channels = features.shape[:2]
    spans = -(-channels // SPAN)
    root = _root_of_unit(grad)
    multiples = support.empty_image(features, channels, torch.int64).zero_()
    moves = torch.empty((spans, batch, *offsets.shape[1:]), dtype=torch.float32, device=features.device)
    tensors = (grad, features, offsets, offsets if weights is None else weights, multiples, moves.flatten(0, 1))
    layout = _layout(features, tensors)
    with support.device_of(features):
        kernels.backward_kernel[_grid(grad, layout, spans)](
            *(part for tensor in tensors for part in (tensor, support.strides(tensor))), 1 / root,
            channels, batch, *_geometry(features, grad, receptive_field), spans, SPAN,
            AXES=len(scale), WEIGHTED=weights is not None, **layout,
        )  # fmt: skip
    features_grad = multiples.to(torch.float32).mul_(root).mul_(root).to(features.dtype)
    moves_grad = moves.sum(0)
    if weights is None:
        return features_grad, moves_grad.to(offsets.dtype), None
    return features_grad, (moves_grad * weights).to(offsets.dtype), (moves_grad * offsets).to(weights.dtype)


def _root_of_unit(grad: Tensor) -> Tensor:
    """Return the square root of the unit of the features' gradient, (B, C, 1, ...); NaN where ``grad`` is not finite.

    The unit itself, or its reciprocal, may be outside the range of float32.
    """
    largest = grad.abs().amax(tuple(range(2, grad.ndim)), keepdim=True).float()
    # 3 bits are for the sign and rounding; every point of the sample adds at most one share, of at most 1, to a sum.
    exponent = torch.frexp(largest).exponent - (60 - grad.shape[2:].numel().bit_length())
    root = torch.exp2(torch.div(exponent, 2, rounding_mode="floor").float())
    return torch.where(torch.isfinite(largest), root, math.nan)


def _geometry(
    features: Tensor, scaled: Tensor, receptive_field: float
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Return the sizes of input and output, and the shift in pixels of a unit move on each axis."""
    size = support.spatial_size(features)
    infinite = math.isinf(receptive_field)
    units = tuple(float(length) / 2 if infinite else receptive_field / 4 for length in size)
    return size, support.spatial_size(scaled), units


def _layout(image: Tensor, tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    last = is_channels_last(image) and image.shape[1] >= CHANNELS_LAST_LANES // 2
    return {
        "POINTS": CHANNELS_LAST_POINTS if last else POINTS,
        "LANES": CHANNELS_LAST_LANES if last else 1,
        "WIDE": support.needs_int64(*tensors),
        "enable_fp_fusion": True,
    }


def _grid(scaled: Tensor, layout: dict[str, Any], spans: int) -> tuple[int]:
    return (-(-scaled.shape[2:].numel() // layout["POINTS"]) * spans * scaled.shape[0],)
