"""The selective scan as operators of ``torch.library``, so that autograd, compilers and DDP see through it.

``deconvseg::selective_scan`` returns the result and, with ``keep``, the states before every chunk, which spare the
backward pass a scan. All results are contiguous. Second derivatives come from plain PyTorch.
"""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.backends import Operator
from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.selective_scan import chunked
from deconvseg.ops.selective_scan.inputs import Inputs

SCAN = Operator("selective_scan", "deconvseg.ops.selective_scan", images=5)

_TENSORS = "Tensor u, Tensor delta, Tensor b, Tensor c, Tensor? gate, Tensor a, Tensor? skip, Tensor? delta_bias"


def scan(inputs: Inputs, softplus: bool) -> Tensor:
    """Scan by a kernel."""
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs.given().values())
    out: Tensor = torch.ops.deconvseg.selective_scan(*inputs, softplus, keep)[0]
    return out


def _scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, softplus, keep = arguments
    scanned: tuple[Tensor, Tensor] = SCAN.kernels(*tensors).scan(Inputs(*tensors), softplus, keep)
    return scanned


def _scan_backward(grad: Tensor, states: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, softplus = arguments
    kernels, inputs = SCAN.kernels(*tensors), Inputs(*tensors)
    if states.numel() == 0:
        _, states = kernels.scan(inputs, softplus, keep=True)
    gradients = kernels.scan_backward(grad, states, inputs, softplus)
    return tuple(grad.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _fake_scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, _, keep = arguments
    inputs = Inputs(*tensors)
    return inputs.u.new_empty(inputs.u.shape), inputs.u.new_empty(inputs.shape_of_states() if keep else (0,))


def _fake_scan_backward(grad: Tensor, states: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, _ = arguments
    return tuple(grad.new_empty((0,) if tensor is None else tensor.shape) for tensor in tensors)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.softplus, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *tensors)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    grad, _, *tensors, ctx.softplus = inputs
    ctx.save_for_backward(grad, *tensors)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.deconvseg.selective_scan_backward(grad, *ctx.saved_tensors, ctx.softplus)
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    return *(gradient if needed else None for gradient, needed in wanted), None, None


def _differentiate_again(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    grad, *tensors = ctx.saved_tensors
    inputs = Inputs(*tensors)
    given = list(inputs.given())

    def function(*present: Tensor) -> Tensor:
        return chunked.scan(inputs.convert(lambda *_: present), ctx.softplus, recompute=False)

    wanted = [cotangents[Inputs._fields.index(name)] for name in given]
    of_grad, *rest = second_derivatives(function, grad, list(inputs.given().values()), wanted)
    gradients = dict(zip(given, rest, strict=True))
    return of_grad, None, *map(gradients.get, Inputs._fields), None


def _register() -> None:
    if hasattr(torch.ops.deconvseg, "selective_scan"):
        return  # registered before this module was imported again
    results = ", ".join(["Tensor"] * len(Inputs._fields))
    torch.library.define("deconvseg::selective_scan", f"({_TENSORS}, bool softplus, bool keep) -> (Tensor, Tensor)")
    torch.library.define(
        "deconvseg::selective_scan_backward", f"(Tensor grad, Tensor states, {_TENSORS}, bool softplus) -> ({results})"
    )
    forward = _scan, _fake_scan, _differentiate, _save
    backward = _scan_backward, _fake_scan_backward, _differentiate_again, _save_backward
    for name, (kernel, fake, derivative, save) in (
        ("deconvseg::selective_scan", forward),
        ("deconvseg::selective_scan_backward", backward),
    ):
        torch.library.impl(name, "cpu", kernel)
        torch.library.register_fake(name, fake)
        torch.library.register_autograd(name, derivative, setup_context=save)


_register()
