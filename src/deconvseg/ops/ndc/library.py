"""The update as ``torch.library`` operators, which support autograd, compilers and DDP.

The result of ``deconvseg::ndc_update`` has the source's type and memory format; the gradients of image and source have
the same format, that of the filters is contiguous. The reference computes second derivatives.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.ndc import reference
from deconvseg.ops.precision import in_full_precision
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend
from deconvseg.ops.triton_support import empty_image

UPDATE = define_operator("ndc_update", 3, images=2)
register_backend("ndc_update", "native", device="cpu", kernels="deconvseg.ops.ndc.native")
register_backend("ndc_update", "triton", device="cuda", kernels="deconvseg.ops.ndc.triton")

_ARGUMENTS = "Tensor x, Tensor source, Tensor filters, int groups, float eps"


def update(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float, backend: str) -> Tensor:
    """Return one multiplicative update (Eq. 7), computed by the chosen backend."""
    updated: Tensor = torch.ops.deconvseg.ndc_update(x, source, filters, groups, eps, backend)
    return updated


def by_reference(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Tensor:
    """Return one multiplicative update (Eq. 7) in plain PyTorch; half types are computed in float32."""
    full_x, full_source, full_filters = in_full_precision(x, source, filters)
    return reference.update(full_x, full_source, full_filters, groups, eps).to(source.dtype)


def _update(kernels: Any, x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Tensor:
    return in_order_of(source, kernels.update(x, source, filters, groups, eps))


def _update_backward(
    kernels: Any, grad: Tensor, x: Tensor, source: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    of_x, of_source, of_filters = kernels.update_backward(grad, x, source, *rest)
    return in_order_of(source, of_x), in_order_of(source, of_source), of_filters.contiguous()


def _fake_update(x: Tensor, source: Tensor, *rest: Any) -> Tensor:
    return empty_image(source, source.shape[1], source.dtype)


def _fake_update_backward(
    grad: Tensor, x: Tensor, source: Tensor, filters: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    of_x, of_source = (empty_image(source, image.shape[1], image.dtype) for image in (x, source))
    return of_x, of_source, filters.new_empty(filters.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    *tensors, ctx.groups, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.deconvseg.ndc_update_backward(grad, *ctx.saved_tensors, ctx.groups, ctx.eps, ctx.backend)
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    return *(gradient if needed else None for gradient, needed in wanted), None, None


def _differentiate_again(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    grad, *tensors = ctx.saved_tensors
    function = partial(by_reference, groups=ctx.groups, eps=ctx.eps)
    return *second_derivatives(function, grad, tensors, cotangents), None, None


define_in_torch(UPDATE, "ndc_update", f"({_ARGUMENTS}) -> Tensor", _update, _fake_update, _differentiate, _save)
define_in_torch(
    UPDATE,
    "ndc_update_backward",
    f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    *(_update_backward, _fake_update_backward, _differentiate_again, _save),
    first=1,
)
