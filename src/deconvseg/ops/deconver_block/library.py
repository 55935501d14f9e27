"""The block as operators of ``torch.library``, so that autograd, compilers and DDP see through it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.deconver_block import native, reference
from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.layout import CHANNELS_LAST

_WEIGHTS = (
    "Tensor project_in, Tensor filters, Tensor source, Tensor source_bias, Tensor project_out, "
    "Tensor project_out_bias, Tensor expand, Tensor expand_bias, Tensor contract, Tensor contract_bias"
)
_COUNT = 10


def apply(x: Tensor, weights: Sequence[Tensor], eps: float, norm_eps: float, keep: bool) -> Tensor:
    """Call the operator; ``keep`` what its gradient needs."""
    result: Tensor = torch.ops.deconvseg.deconver_block(x, *weights, eps, norm_eps, keep)[0]
    return result


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim])


torch.library.define(
    "deconvseg::deconver_block", f"(Tensor x, {_WEIGHTS}, float eps, float norm_eps, bool keep) -> (Tensor, Tensor)"
)
torch.library.define(
    "deconvseg::deconver_block_backward",
    f"(Tensor grad, Tensor x, Tensor between, {_WEIGHTS}, float eps, float norm_eps) -> ({', '.join(['Tensor'] * 11)})",
)


@torch.library.impl("deconvseg::deconver_block", "CPU")
def _forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return native.forward(x, rest[:_COUNT], *rest[_COUNT:])


@torch.library.impl("deconvseg::deconver_block_backward", "CPU")
def _backward(grad: Tensor, x: Tensor, between: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return native.backward(grad, x, between, rest[:_COUNT], *rest[_COUNT:])


@torch.library.register_fake("deconvseg::deconver_block")  # type: ignore[untyped-decorator]
def _fake_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _like(x), _like(x) if rest[-1] else x.new_empty(0)


@torch.library.register_fake("deconvseg::deconver_block_backward")  # type: ignore[untyped-decorator]
def _fake_backward(grad: Tensor, x: Tensor, between: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return _like(x), *(torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in rest[:_COUNT])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *weights = inputs[: 1 + _COUNT]
    ctx.numbers = inputs[1 + _COUNT : 3 + _COUNT]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, output[1], *weights)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    x, between, *weights = ctx.saved_tensors
    gradients = torch.ops.deconvseg.deconver_block_backward(grad, x, between, *weights, *ctx.numbers)
    return *gradients, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, x, _, *weights = inputs[: 3 + _COUNT]
    ctx.numbers = inputs[3 + _COUNT :]
    ctx.save_for_backward(grad, x, *weights)


def _differentiate_backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    grad, *tensors = ctx.saved_tensors

    def block(x: Tensor, *weights: Tensor) -> Tensor:
        return reference.block(x, weights, *ctx.numbers)

    of_grad, of_x, *of_weights = second_derivatives(block, grad, tensors, cotangents)
    return of_grad, of_x, None, *of_weights, None, None


torch.library.register_autograd("deconvseg::deconver_block", _differentiate, setup_context=_save)
torch.library.register_autograd(
    "deconvseg::deconver_block_backward", _differentiate_backward, setup_context=_save_backward
)
