"""Convolutions as operators of ``torch.library``, so that autograd and DDP see through them.

A convolution, its adjoint and the gradient of its weights are each other's derivatives, of any order.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.conv import native
from deconvseg.ops.layout import CHANNELS_LAST

# Defined by their schemas: ``torch.library.custom_op`` would import PyTorch's compiler at the first call.
_SCHEMAS = {
    "conv": "(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor",
    "conv_transpose": "(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    "conv_transpose_add_": "(Tensor(a!) out, Tensor x, Tensor weight) -> ()",
    "conv_weight_gradient": "(Tensor low, Tensor high, int[] kernel, int[] stride, int[] padding) -> (Tensor, Tensor)",
}
_KERNELS: dict[str, Callable[..., object]] = {
    "conv": native.conv,
    "conv_transpose": native.conv_transpose,
    "conv_transpose_add_": native.add_conv_transpose,
    "conv_weight_gradient": native.weight_gradient,
}
for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"deconvseg::{_name}", _schema)
    torch.library.impl(f"deconvseg::{_name}", "CPU")(_KERNELS[_name])

conv = torch.ops.deconvseg.conv
conv_transpose = torch.ops.deconvseg.conv_transpose
add_conv_transpose = torch.ops.deconvseg.conv_transpose_add_
conv_weight_gradient = torch.ops.deconvseg.conv_weight_gradient


def _empty(like: Tensor, channels: int, size: list[int]) -> Tensor:
    return torch.empty_like(like.new_empty((like.shape[0], channels, *size)), memory_format=CHANNELS_LAST[like.ndim])


def _fake_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]) -> Tensor:
    return _empty(x, weight.shape[0], native.low_size(x, weight, stride, padding))


def _fake_transpose(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _empty(x, weight.shape[1], [n * k for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)])


def _fake_gradient(
    low: Tensor, high: Tensor, kernel: list[int], stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor]:
    return low.new_empty((low.shape[1], high.shape[1], *kernel)), low.new_empty(low.shape[1])


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(x, weight)


def _differentiate_conv(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, *others = ctx.needs_input_grad[:3]
    of_weight, of_bias = (
        conv_weight_gradient(grad, x, list(weight.shape[2:]), ctx.stride, ctx.padding) if any(others) else (None, None)
    )
    return conv_transpose(grad, weight, None) if of_x else None, of_weight, of_bias if others[1] else None, None, None


def _save_transpose(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _differentiate_transpose(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad
    kernel, none = list(weight.shape[2:]), [0] * (weight.ndim - 2)
    return (
        conv(grad, weight, None, kernel, none) if of_x else None,
        conv_weight_gradient(x, grad, kernel, kernel, none)[0] if of_weight else None,
        grad.sum((0, *range(2, grad.ndim))) if of_bias else None,
    )


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    low, high, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(low, high)


def _differentiate_gradient(ctx: Any, of_weight: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
    low, high = ctx.saved_tensors
    of_low = conv(high, of_weight, of_total, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
    of_high = conv_transpose(low, of_weight, None) if ctx.needs_input_grad[1] else None
    return of_low, of_high, None, None, None


torch.library.register_fake("deconvseg::conv", _fake_conv)
torch.library.register_fake("deconvseg::conv_transpose", _fake_transpose)
torch.library.register_fake("deconvseg::conv_transpose_add_", lambda out, x, weight: None)
torch.library.register_fake("deconvseg::conv_weight_gradient", _fake_gradient)
torch.library.register_autograd("deconvseg::conv", _differentiate_conv, setup_context=_save_conv)
torch.library.register_autograd("deconvseg::conv_transpose", _differentiate_transpose, setup_context=_save_transpose)
torch.library.register_autograd(
    "deconvseg::conv_weight_gradient", _differentiate_gradient, setup_context=_save_gradient
)
