"""Derivatives that only the reference computes: second derivatives, and batches of gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deconvseg.ops.backends import why_reference
from deconvseg.ops.torch_internals import is_batch_of_gradients


def is_differentiated_or_batched(grad: Tensor) -> bool:
    """Return whether a backward pass must run in plain PyTorch: it is differentiated itself, or batched.

    Batched are ``vmap``, and ``is_grads_batched`` and ``vectorize=True`` of ``torch.autograd``.
    """
    batched = is_batch_of_gradients(grad) or why_reference() is not None
    return torch.is_grad_enabled() or batched


def second_derivatives(
    function: Callable[..., Tensor], grad: Tensor, tensors: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``grad`` and ``tensors``, given ``cotangents``, the gradients of the tensors' gradients.

    The result is differentiable if gradients are enabled at the call.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that autograd does not treat a tensor that was computed from another one as a function of it.
        inputs = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in (grad, *tensors)]
        first = torch.autograd.grad(function(*inputs[1:]), inputs[1:], inputs[0], create_graph=True)
        return torch.autograd.grad(first, inputs, cotangents, create_graph=differentiable, allow_unused=True)
