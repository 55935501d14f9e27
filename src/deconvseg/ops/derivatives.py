"""Derivatives that the backends leave to the reference: second ones, and several at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deconvseg.ops.backends import why_reference
from deconvseg.ops.torch_internals import is_batch_of_gradients


def is_differentiated_or_batched(grad: Tensor) -> bool:
    """Return whether a backward pass must be plain PyTorch: it is to be differentiated, or is one of many at once.

    The latter are ``vmap`` and the older ``is_grads_batched`` and ``vectorize=True`` of ``torch.autograd``.
    """
    batched = is_batch_of_gradients(grad) or why_reference() is not None
    return torch.is_grad_enabled() or batched


def second_derivatives(
    function: Callable[..., Tensor], grad: Tensor, tensors: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of ``grad`` and the tensors from those (``cotangents``) of the tensors' gradients.

    Differentiable again where the caller's graph is to be.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that a tensor made from another one of them does not also count as a function of it.
        inputs = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in (grad, *tensors)]
        first = torch.autograd.grad(function(*inputs[1:]), inputs[1:], inputs[0], create_graph=True)
        return torch.autograd.grad(first, inputs, cotangents, create_graph=differentiable, allow_unused=True)
