"""Convolutions as ``torch.library`` operators, which support autograd and DDP.

A convolution, its adjoint and the gradient of its weights are each other's derivatives of any order.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend
from deconvseg.ops.shapes import convolved_size, finer_size

CONV = define_operator("conv", 3, images=1, of_layers=True)
TRANSPOSE = define_operator("conv_transpose", 3, images=1, of_layers=True)
register_backend("conv", "native", device="cpu", kernels="deconvseg.ops.conv.native")
register_backend(
    "conv_transpose", "native", device="cpu", kernels="deconvseg.ops.conv.native", decline="decline_transpose"
)
JOIN = define_operator("join", 5, images=2, of_layers=True)
register_backend("join", "native", device="cpu", kernels="deconvseg.ops.conv.native", decline="decline_join")
ONEDNN = define_operator("onednn_conv", 3, images=1, of_layers=True)
register_backend("onednn_conv", "native", device="cpu", kernels="deconvseg.ops.conv.onednn")


def _empty(like: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    return torch.empty_like(like.new_empty((like.shape[0], channels, *size)), memory_format=CHANNELS_LAST[like.ndim])


def _fake_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]) -> Tensor:
    return _empty(x, weight.shape[0], convolved_size(x.shape[2:], weight.shape[2:], stride, padding))


def _fake_onednn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    reach = [(length - 1) * step + 1 for length, step in zip(weight.shape[2:], dilation, strict=True)]
    return _empty(x, weight.shape[0], convolved_size(x.shape[2:], reach, stride, padding))


def _fake_transpose(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _empty(x, weight.shape[1], finer_size(x.shape[2:], weight.shape[2:]))


def _fake_gradient(low: Tensor, high: Tensor, kernel: list[int], *rest: Any) -> tuple[Tensor, Tensor]:
    precise = torch.promote_types(low.dtype, torch.float32)
    sizes = (low.shape[1], high.shape[1], *kernel), (low.shape[1],)
    gradient, total = (low.new_empty(size, dtype=precise) for size in sizes)
    return gradient, total


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(x, weight)


def _differentiate_conv(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, *others = ctx.needs_input_grad[:3]
    settings = list(weight.shape[2:]), ctx.stride, ctx.padding, ctx.backend
    of_weight, of_bias = conv_weight_gradient(grad, x, *settings) if any(others) else (None, None)
    of_x = conv_transpose(grad, weight, None, ctx.backend) if of_x else None
    return of_x, of_weight, of_bias if others[1] else None, None, None


def _save_transpose(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _differentiate_transpose(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
    kernel, none = list(weight.shape[2:]), [0] * (weight.ndim - 2)
    return (
        conv(grad, weight, None, kernel, none, ctx.backend) if of_x else None,
        conv_weight_gradient(x, grad, kernel, kernel, none, ctx.backend)[0] if of_weight else None,
        _sum_of_channels(grad) if of_bias else None,
    )


def _sum_of_channels(image: Tensor) -> Tensor:
    return image.sum((0, *range(2, image.ndim)), dtype=torch.promote_types(image.dtype, torch.float32))


def _fake_join(skip: Tensor, x: Tensor, of_skip: Tensor, spread: Tensor, bias: Tensor | None) -> Tensor:
    return _empty(skip, of_skip.shape[0], skip.shape[2:])


def _save_join(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _differentiate_join(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    skip, x, of_skip, spread = ctx.saved_tensors
    for_skip, for_x, *for_weights = ctx.needs_input_grad[:5]
    ones, none, kernel = [1] * (x.ndim - 2), [0] * (x.ndim - 2), list(spread.shape[2:])
    of_weight, of_bias = (
        conv_weight_gradient(grad, skip, ones, ones, none, ctx.backend)
        if for_weights[0] or for_weights[2]
        else (None, None)
    )
    return (
        conv_transpose(grad, of_skip, None, ctx.backend) if for_skip else None,
        conv(grad, spread, None, kernel, none, ctx.backend) if for_x else None,
        of_weight,
        conv_weight_gradient(x, grad, kernel, kernel, none, ctx.backend)[0] if for_weights[1] else None,
        of_bias if for_weights[2] else None,
    )


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    low, high, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(low, high)


def _differentiate_gradient(ctx: Any, of_weight: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
    low, high = ctx.saved_tensors
    settings = ctx.stride, ctx.padding, ctx.backend
    of_low = conv(high, of_weight, of_total, *settings) if ctx.needs_input_grad[0] else None
    of_high = conv_transpose(low, of_weight, None, ctx.backend) if ctx.needs_input_grad[1] else None
    return of_low, of_high, None, None, None


_IMAGES, _SETTINGS = "Tensor x, Tensor weight, Tensor? bias", "int[] stride, int[] padding"
define_in_torch(
    CONV,
    "conv",
    f"({_IMAGES}, {_SETTINGS}) -> Tensor",
    *(lambda kernels, *given: kernels.conv(*given), _fake_conv, _differentiate_conv, _save_conv),
)
define_in_torch(
    TRANSPOSE,
    "conv_transpose",
    f"({_IMAGES}) -> Tensor",
    *(lambda kernels, *given: kernels.conv_transpose(*given), _fake_transpose),
    *(_differentiate_transpose, _save_transpose),
)
define_in_torch(
    TRANSPOSE,
    "conv_transpose_add_",
    "(Tensor(a!) out, Tensor x, Tensor weight) -> ()",
    *(lambda kernels, *given: kernels.add_conv_transpose(*given), lambda *_: None),
)
define_in_torch(
    JOIN,
    "join",
    "(Tensor skip, Tensor x, Tensor of_skip, Tensor spread, Tensor? bias) -> Tensor",
    *(lambda kernels, *given: kernels.join(*given), _fake_join, _differentiate_join, _save_join),
)
define_in_torch(
    CONV,
    "conv_weight_gradient",
    f"(Tensor low, Tensor high, int[] kernel, {_SETTINGS}) -> (Tensor, Tensor)",
    *(lambda kernels, *given: kernels.weight_gradient(*given), _fake_gradient),
    *(_differentiate_gradient, _save_gradient),
)
define_in_torch(
    ONEDNN,
    "onednn_conv",
    f"({_IMAGES}, {_SETTINGS}, int[] dilation, int groups) -> Tensor",
    *(lambda kernels, *given: kernels.conv(*given), _fake_onednn),
)

conv = torch.ops.deconvseg.conv
onednn_conv = torch.ops.deconvseg.onednn_conv
conv_transpose = torch.ops.deconvseg.conv_transpose
add_conv_transpose = torch.ops.deconvseg.conv_transpose_add_
join = torch.ops.deconvseg.join
conv_weight_gradient = torch.ops.deconvseg.conv_weight_gradient
