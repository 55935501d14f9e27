"""The selective scan as ``torch.library`` operators, which support autograd, compilers and DDP.

``deconvseg::selective_scan`` returns the result and, with ``keep``, the states before every chunk, which save the
backward pass a scan. All results are contiguous. Plain PyTorch computes second derivatives.
"""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.derivatives import second_derivatives
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend
from deconvseg.ops.selective_scan import chunked
from deconvseg.ops.selective_scan.inputs import Inputs

SCAN = define_operator("selective_scan", len(Inputs._fields), images=5)
register_backend("selective_scan", "native", device="cpu", kernels="deconvseg.ops.selective_scan.native")
register_backend("selective_scan", "mamba_ssm", device="cuda", kernels="deconvseg.ops.selective_scan.mamba")

_TENSORS = "Tensor u, Tensor delta, Tensor b, Tensor c, Tensor? gate, Tensor a, Tensor? skip, Tensor? delta_bias"


def scan(inputs: Inputs, softplus: bool, backend: str = "") -> Tensor:
    """Scan with the named backend, by default with the first that accepts the tensors."""
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs.given().values())
    out: Tensor = torch.ops.deconvseg.selective_scan(*inputs, softplus, keep, backend)[0]
    return out


def _scan(kernels: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, softplus, keep = arguments
    scanned: tuple[Tensor, Tensor] = kernels.scan(Inputs(*tensors), softplus, keep)
    return scanned


def _scan_backward(kernels: Any, grad: Tensor, states: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, softplus = arguments
    inputs = Inputs(*tensors)
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
    gradients = torch.ops.deconvseg.selective_scan_backward(grad, *ctx.saved_tensors, ctx.softplus, ctx.backend)
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


_RESULTS = ", ".join(["Tensor"] * len(Inputs._fields))
define_in_torch(
    SCAN,
    "selective_scan",
    f"({_TENSORS}, bool softplus, bool keep) -> (Tensor, Tensor)",
    *(_scan, _fake_scan, _differentiate, _save),
)
define_in_torch(
    SCAN,
    "selective_scan_backward",
    f"(Tensor grad, Tensor states, {_TENSORS}, bool softplus) -> ({_RESULTS})",
    *(_scan_backward, _fake_scan_backward, _differentiate_again, _save_backward),
    first=2,
)
