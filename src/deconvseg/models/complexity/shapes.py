"""Outputs without values of PyTorch's operations whose own rules are written in Python.

For these PyTorch imports symbolic mathematics and its compiler (a second), even if all sizes are plain numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def output_of(operation: Any) -> Callable[..., Any] | None:
    """Return a function of an operation's arguments that returns its outputs, or None if they do not fit together.

    None without such a function.
    """
    return _OUTPUTS.get(operation)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    read, written = (0, 1) if transposed else (1, 0)
    channels = weight.shape[read] * (1 if transposed else groups)
    settings = [list(values) * (x.ndim - 2 if len(values) == 1 else 1) for values in (stride, padding, dilation)]
    more = list(output_padding) * (x.ndim - 2 if len(output_padding) == 1 else 1)
    sizes = []
    for length, kernel, step, pad, apart, further in zip(x.shape[2:], weight.shape[2:], *settings, more, strict=False):
        reach = apart * (kernel - 1)
        if transposed:
            sizes.append((length - 1) * step - 2 * pad + reach + further + 1)
        else:
            sizes.append((length + 2 * pad - reach - 1) // step + 1)
    if x.ndim != weight.ndim or channels != x.shape[1] or min((*x.shape, *sizes)) < 1:
        return None
    return x.new_empty((x.shape[0], weight.shape[written] * (groups if transposed else 1), *sizes))


def _normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, batch: int, channels: int, size: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    if x.ndim < 2 or channels % groups or x.numel() != batch * channels * size:
        return None
    return x.new_empty(x.shape), x.new_empty((batch, groups)), x.new_empty((batch, groups))


def _activate(x: Tensor, **options: Any) -> Tensor:
    return torch.empty_like(x)


def _activate_in_place(x: Tensor, **options: Any) -> Tensor:
    return x


def _add(x: Any, y: Any, **options: Any) -> Tensor | None:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return None
    alike = (x.shape, x.dtype, x.stride(), x.device) == (y.shape, y.dtype, y.stride(), y.device)
    return torch.empty_like(x) if alike else None


def _join(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    others = {(each.dtype, each.device, *each.shape[:dim], *each.shape[dim + 1 :]) for each in tensors}
    if dim < 0 or len(others) > 1 or not all(each.is_contiguous() for each in tensors):
        return None
    return first.new_empty((*first.shape[:dim], sum(each.shape[dim] for each in tensors), *first.shape[dim + 1 :]))


_OUTPUTS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: _convolve,
    torch.ops.aten.native_group_norm.default: _normalise,
    torch.ops.aten.add.Tensor: _add,
    torch.ops.aten.cat.default: _join,
    **dict.fromkeys((torch.ops.aten.gelu.default, torch.ops.aten.relu.default), _activate),
    **dict.fromkeys((torch.ops.aten.gelu_.default, torch.ops.aten.relu_.default), _activate_in_place),
}
