"""A whole Deconver block at once, without a tensor of the expanded channels (Deconver, arXiv 2504.00302)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.ops.backends import Choice, why_not_native
from deconvseg.ops.deconver_block import library, native
from deconvseg.ops.overriding import overridable

__all__ = ["choose_block", "deconver_block"]


def choose_block(x: Tensor, weights: Sequence[Tensor], apart: str | None = None) -> Choice:
    """Choose what computes a block: ``native``, or ``reference``, which stands for its layers one after the other.

    ``apart`` is the caller's own reason for calling the layers one by one. Forcing ``native`` is no error where the
    block declines: then it is the deconvolution in it that must run natively.
    """
    reason = apart or why_not_native(x, *weights) or native.decline(x, *weights)
    triton = "no kernel of a whole block: its deconvolution runs on triton"
    if reason:
        return Choice("deconver_block", "reference", {"native": reason, "triton": triton})
    return Choice("deconver_block", "native", {"reference": "native is faster", "triton": triton})


@overridable
def deconver_block(x: Tensor, weights: Sequence[Tensor], *, eps: float, norm_eps: float) -> Tensor:
    """Apply a Deconver block with a group per channel and one update to (B, C, \\*S) of two or three axes (Eq. 4 to 7).

    ``weights`` are, in the order of the computation: projection in (C, C), filters (C, R, \\*K), source and its bias
    (C * R, C), projection out and its bias (C, C * R), MLP expansion and its bias, contraction and its bias; pointwise
    ones with axes of size 1 behind, as PyTorch's convolutions have them. ``eps`` is Eq. 7's and ``norm_eps`` the
    instance normalisation's. Returns (B, C, \\*S) with the channels innermost in memory.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights))
    return library.apply(x, weights, eps, norm_eps, keep)
