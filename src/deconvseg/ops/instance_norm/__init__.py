"""Instance normalisation, optionally followed by a leaky ReLU."""

from torch import Tensor

from deconvseg.ops.backends import Choice, choose, chosen
from deconvseg.ops.instance_norm import library, reference
from deconvseg.ops.layout import is_readable
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
    """Normalise each channel of (B, C, \\*S) to mean 0 and variance 1, then scale by ``weight`` and add ``bias`` (C,).

    With a ``negative_slope``, negative results are then multiplied by it, as in ``LeakyReLU``. The memory format is
    kept. A single position gives 0, or the bias. On a CPU a compiled kernel computes the result if no gradient is
    needed.

    Example:
        >>> import torch
        >>> from deconvseg.ops import instance_norm
        >>> normal = instance_norm(5 + torch.rand(2, 3, 8, 8))
        >>> torch.allclose(normal.mean((2, 3)), torch.zeros(2, 3), atol=1e-4)
        True

    """
    return _normalise(x, weight, bias, eps, negative_slope, in_place=False)


@overridable
def instance_norm_(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
) -> Tensor:
    """Compute :func:`instance_norm` in place where possible; use the returned tensor, not ``x``."""
    return _normalise(x, weight, bias, eps, negative_slope, in_place=True)


def choose_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
) -> Choice:
    """Return the backend of :func:`instance_norm`."""
    return choose(library.NORM, x, weight, bias)


def _normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float | None, in_place: bool
) -> Tensor:
    backend = chosen(library.NORM, x, weight, bias)
    if backend == "reference":
        return reference.instance_norm(x, weight, bias, eps, negative_slope)
    arguments = x, weight, bias, eps, 1.0 if negative_slope is None else negative_slope, backend
    if in_place and is_readable(x):
        library.instance_norm_(*arguments)
        return x
    result: Tensor = library.instance_norm(*arguments)
    return result
