"""Deformable upsampling as ``torch.library`` operators, which support autograd, compilers and DDP.

The result of ``deconvseg::deformable_upsample`` and the gradient of the features have the features' type and memory
format; the gradients of offsets and weights are contiguous. The reference computes second derivatives.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.deformable_upsample import reference
from deconvseg.ops.deformable_upsample.exporting import current_form
from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.precision import in_full_precision
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend
from deconvseg.ops.triton_support import empty_image

UPSAMPLE = define_operator("deformable_upsample", 3, images=3)
register_backend("deformable_upsample", "native", device="cpu", kernels="deconvseg.ops.deformable_upsample.native")
register_backend("deformable_upsample", "triton", device="cuda", kernels="deconvseg.ops.deformable_upsample.triton")

_ARGUMENTS = "Tensor features, Tensor offsets, Tensor? weights, int[] scale, float receptive_field"


def upsample(*arguments: Any) -> Tensor:
    """Sample features at shifted positions (Eq. 1 and 2) with the backend named by the last argument."""
    sampled: Tensor = torch.ops.deconvseg.deformable_upsample(*arguments)
    return sampled


def by_reference(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    scale: Sequence[int],
    receptive_field: float,
    base: Tensor | None = None,
) -> Tensor:
    """Sample features at shifted positions (Eq. 1 and 2) in plain PyTorch and add ``base``; half types use float32."""
    moves = (offsets,) if weights is None else (offsets, weights)
    full_features, full_offsets, *full_weights = in_full_precision(features, *moves)
    where = reference.positions(
        full_offsets, full_weights[0] if full_weights else None, features.shape[2:], scale, receptive_field
    )
    by_grid = current_form() == "grid_sample"
    sampled = (reference.sample_by_grid if by_grid else reference.sample)(full_features, where)
    return (sampled if base is None else sampled + base).to(features.dtype)


def _upsample(
    kernels: Any, features: Tensor, offsets: Tensor, weights: Tensor | None, scale: Sequence[int], *rest: Any
) -> Tensor:
    return in_order_of(features, kernels.forward(features, offsets, weights, tuple(scale), *rest))


def _upsample_backward(
    kernels: Any, grad: Tensor, features: Tensor, offsets: Tensor, weights: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    scale, receptive_field = rest
    gradients = kernels.backward(grad, features, offsets, weights, tuple(scale), receptive_field)
    of_weights = offsets.new_empty(0) if weights is None else gradients[2].contiguous()
    return in_order_of(features, gradients[0]), gradients[1].contiguous(), of_weights


def _fake_upsample(features: Tensor, offsets: Tensor, *rest: Any) -> Tensor:
    return empty_image(features, features.shape[1], features.dtype, offsets.shape[2:])


def _fake_upsample_backward(
    grad: Tensor, features: Tensor, offsets: Tensor, weights: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    of_features = empty_image(features, features.shape[1], features.dtype)
    of_weights = offsets.new_empty(0) if weights is None else weights.new_empty(weights.shape)
    return of_features, offsets.new_empty(offsets.shape), of_weights


def _save(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    *tensors, ctx.scale, ctx.receptive_field, base = inputs
    ctx.type_of_base = None if base is None else base.dtype
    ctx.save_for_backward(*tensors)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    *tensors, ctx.scale, ctx.receptive_field = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.deconvseg.deformable_upsample_backward(
        grad, *ctx.saved_tensors, ctx.scale, ctx.receptive_field, ctx.backend
    )
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    of_base = grad.to(ctx.type_of_base) if ctx.needs_input_grad[5] else None
    return *(gradient if needed else None for gradient, needed in wanted), None, None, of_base


def _differentiate_again(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    grad, features, offsets, weights = ctx.saved_tensors
    tensors = (features, offsets) if weights is None else (features, offsets, weights)

    def function(features: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        return by_reference(features, offsets, weights, ctx.scale, ctx.receptive_field)

    gradients = second_derivatives(function, grad, tensors, cotangents[: len(tensors)])
    return *gradients, *(None,) * (6 - len(gradients))


define_in_torch(
    UPSAMPLE,
    "deformable_upsample",
    f"({_ARGUMENTS}, Tensor? base) -> Tensor",
    *(_upsample, _fake_upsample, _differentiate, _save),
)
define_in_torch(
    UPSAMPLE,
    "deformable_upsample_backward",
    f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    *(_upsample_backward, _fake_upsample_backward, _differentiate_again, _save_backward),
    first=1,
)
