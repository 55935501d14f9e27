"""A whole Deconver block in one operator, without tensors of the expanded channels (Deconver, arXiv 2504.00302)."""

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.backends import Choice, choose
from deconvseg.ops.deconver_block import library
from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import as_computed

__all__ = ["Weights", "choose_block", "deconver_block"]


def choose_block(x: Tensor, weights: Weights | tuple[()], reason: str | None = None) -> Choice:
    """Return the backend of a block; ``reference`` stands for its layers, called one by one.

    ``reason`` is a caller's reason for calling the layers one by one. Forcing ``native`` raises no error if the block
    declines; then the deconvolution inside it must run natively.
    """
    return choose(library.BLOCK, x, *weights, reason=reason)


@overridable
def deconver_block(x: Tensor, weights: Weights, *, eps: float, norm_eps: float, backend: str = "") -> Tensor:
    """Apply a Deconver block with one group per channel and one update to (B, C, \\*S) with 2 or 3 axes (Eq. 4 to 7).

    ``eps`` belongs to Eq. 7, ``norm_eps`` to the instance normalisation. ``backend`` is the chosen backend; by default
    the first that accepts the tensors. Returns (B, C, \\*S) with the channels innermost in memory, in bfloat16 where
    layers compute in it. Raises :class:`~deconvseg.errors.InputError` if no kernel accepts the tensors.
    """
    if not backend:
        choice = choose_block(x, weights)
        if choice.backend == "reference":
            raise InputError(f"{choice}; call the layers of the block")
        backend = choice.backend
    x, *parameters = as_computed(x, *weights)
    weights = Weights(*parameters)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights))
    return library.apply(x, weights, eps, norm_eps, keep, backend)
