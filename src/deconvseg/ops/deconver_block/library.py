"""The block as ``torch.library`` operators, which support autograd, compilers and DDP."""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.deconver_block import reference
from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.precision import in_full_precision
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend

BLOCK = define_operator("deconver_block", 1 + len(Weights._fields), images=1, of_layers=True)
register_backend("deconver_block", "native", device="cpu", kernels="deconvseg.ops.deconver_block.native")

_COUNT = len(Weights._fields)
_WEIGHTS = ", ".join(f"Tensor {name}" for name in Weights._fields)
_NUMBERS = "float eps, float norm_eps"


def apply(x: Tensor, weights: Weights, eps: float, norm_eps: float, keep: bool, backend: str) -> Tensor:
    """Call the operator; with ``keep`` it also keeps the tensor that its gradient needs."""
    result: Tensor = torch.ops.deconvseg.deconver_block(x, *weights, eps, norm_eps, keep, backend)[0]
    return result


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim])


def _forward(kernels: Any, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    made: tuple[Tensor, Tensor] = kernels.forward(x, Weights(*rest[:_COUNT]), *rest[_COUNT:])
    return made


def _backward(kernels: Any, grad: Tensor, x: Tensor, between: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = kernels.backward(grad, x, between, Weights(*rest[:_COUNT]), *rest[_COUNT:])
    return gradients


def _fake_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _like(x), _like(x) if rest[-1] else x.new_empty(0)


def _fake_backward(grad: Tensor, x: Tensor, between: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return _like(x), *(torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in rest[:_COUNT])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *weights = inputs[: 1 + _COUNT]
    ctx.numbers = inputs[1 + _COUNT : 3 + _COUNT]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no image of zeros for `between`, which has no gradient
    ctx.save_for_backward(x, output[1], *weights)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    x, between, *weights = ctx.saved_tensors
    gradients = torch.ops.deconvseg.deconver_block_backward(grad, x, between, *weights, *ctx.numbers, ctx.backend)
    return *gradients, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, x, _, *weights = inputs[: 3 + _COUNT]
    ctx.numbers = inputs[3 + _COUNT :]
    ctx.save_for_backward(grad, x, *weights)


def _differentiate_backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    grad, *tensors = ctx.saved_tensors

    def block(x: Tensor, *weights: Tensor) -> Tensor:
        full, *others = in_full_precision(x, *weights)
        return reference.block(full, Weights(*others), *ctx.numbers).to(x.dtype)

    of_grad, of_x, *of_weights = second_derivatives(block, grad, tensors, cotangents)
    return of_grad, of_x, None, *of_weights, None, None


define_in_torch(
    BLOCK,
    "deconver_block",
    f"(Tensor x, {_WEIGHTS}, {_NUMBERS}, bool keep) -> (Tensor, Tensor)",
    *(_forward, _fake_forward, _differentiate, _save),
)
define_in_torch(
    BLOCK,
    "deconver_block_backward",
    f"(Tensor grad, Tensor x, Tensor between, {_WEIGHTS}, {_NUMBERS}) -> ({', '.join(['Tensor'] * (1 + _COUNT))})",
    *(_backward, _fake_backward, _differentiate_backward, _save_backward),
    first=1,
)
