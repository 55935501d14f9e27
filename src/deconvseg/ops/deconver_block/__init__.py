"""A whole Deconver block at once, without a tensor of the expanded channels (Deconver, arXiv 2504.00302)."""

import torch
from torch import Tensor

from deconvseg.ops.backends import Choice, choose
from deconvseg.ops.deconver_block import library
from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.overriding import overridable

__all__ = ["Weights", "choose_block", "deconver_block"]


def choose_block(x: Tensor, weights: Weights | tuple[()], reason: str | None = None) -> Choice:
    """Choose what computes a block; ``reference`` stands for its layers one after the other.

    ``reason`` is the caller's own for calling the layers one by one. Forcing ``native`` is no error where the
    block declines: then it is the deconvolution in it that must run natively.
    """
    return choose(library.BLOCK, x, *weights, reason=reason)


@overridable
def deconver_block(x: Tensor, weights: Weights, *, eps: float, norm_eps: float, backend: str = "") -> Tensor:
    """Apply a Deconver block with a group per channel and one update to (B, C, \\*S) of two or three axes (Eq. 4 to 7).

    ``eps`` is Eq. 7's and ``norm_eps`` the instance normalisation's; ``backend`` is the chosen one, else the first
    that takes the tensors. Returns (B, C, \\*S) with the channels innermost in memory. Raises
    :class:`~deconvseg.errors.InputError` where no kernel takes the tensors.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights))
    return library.apply(x, weights, eps, norm_eps, keep, backend)
