"""Normalising each channel of each sample over its positions, and the rectifier behind it."""

import torch
from torch import Tensor

from deconvseg.ops.backends import Choice, why_not_native
from deconvseg.ops.instance_norm import library, native, reference
from deconvseg.ops.overriding import overridable

__all__ = ["choose_norm", "instance_norm", "instance_norm_"]


@overridable
def instance_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
) -> Tensor:
    """Normalise each channel of (B, C, \\*S) to mean 0 and variance 1, scale and shift it by ``weight``, ``bias`` (C,).

    With a ``negative_slope``, values below zero are then multiplied by it, as ``LeakyReLU`` does. Keeps the memory
    format; a single position becomes 0, or the bias. On a CPU a compiled kernel does so where no gradient is asked for.
    """
    if not torch.compiler.is_compiling() and choose_norm(x, weight, bias).backend == "native":
        result: Tensor = library.instance_norm(x, weight, bias, eps, 1.0 if negative_slope is None else negative_slope)
        return result
    return reference.instance_norm(x, weight, bias, eps, negative_slope)


@overridable
def instance_norm_(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
) -> Tensor:
    """Return :func:`instance_norm`, in the place of ``x`` where that is possible: use only the result."""
    can = not torch.compiler.is_compiling() and native.can_read(x)
    if can and choose_norm(x, weight, bias).backend == "native":
        library.instance_norm_(x, weight, bias, eps, 1.0 if negative_slope is None else negative_slope)
        return x
    return instance_norm(x, weight, bias, eps=eps, negative_slope=negative_slope)


def choose_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
) -> Choice:
    """Choose what computes :func:`instance_norm`: ``native``, or ``reference``, which is PyTorch's."""
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    reason = why_not_native(*given) or native.decline(x, weight, bias)
    triton = "PyTorch's own normalisation is fast on a GPU"
    if reason:
        return Choice("instance_norm", "reference", {"native": reason, "triton": triton})
    return Choice("instance_norm", "native", {"reference": "native is faster", "triton": triton})
