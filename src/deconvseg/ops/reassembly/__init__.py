"""Features of neighbours: their weighted sum (CARAFE, Wang et al., ICCV 2019, Eq. 2) and their similarity (SAPA)."""

from collections.abc import Sequence

from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.cost import counted
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.overriding import overridable
from deconvseg.ops.reassembly import cost, reference
from deconvseg.ops.shapes import finer_size

__all__ = ["compare_neighbours", "reassemble"]


@overridable
@counted(cost.reassemble)
def reassemble(features: Tensor, weights: Tensor, *, scale: int | Sequence[int]) -> Tensor:
    """Upsample by a weighted sum over the neighbourhood of the input position that contains each output position.

    ``features`` is (B, C, \\*S) with two or three spatial axes, ``weights`` (B, K ** axes, \\*(S * scale)) with odd K
    and the neighbours in array order. All channels share the weights; features are zero-padded. ``scale`` is one
    integer or one per axis. Returns (B, C, \\*(S * scale)) in the type and memory format of ``features``. Raises
    :class:`~deconvseg.errors.InputError` if the shapes do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.ops import reassemble
        >>> weights = torch.rand(1, 9, 16, 16).softmax(dim=1)
        >>> reassemble(torch.rand(1, 4, 8, 8), weights, scale=2).shape
        torch.Size([1, 4, 16, 16])

    """
    axes, factors = _check(features, "features", scale)
    size = finer_size(features.shape[2:], factors)
    # Converted to an integer, because under `torch.jit.trace` sizes are tensors.
    kernel = round(int(weights.shape[1]) ** (1 / axes)) if weights.ndim == features.ndim else 0
    if kernel % 2 == 0 or tuple(weights.shape) != (features.shape[0], kernel**axes, *size):
        raise InputError(
            f"weights of shape {tuple(weights.shape)} do not fit features of shape {tuple(features.shape)} with "
            f"scale={scale}: give {(features.shape[0], f'K**{axes}', *size)} with odd K"
        )
    return in_order_of(features, reference.reassemble(features, weights.to(features.dtype), factors, kernel))


@overridable
@counted(cost.compare_neighbours)
def compare_neighbours(queries: Tensor, keys: Tensor, *, scale: int | Sequence[int], kernel_size: int) -> Tensor:
    """Return the inner product of each output position's query with the keys around the input position it lies in.

    This is the similarity of SAPA (Lu et al., NeurIPS 2022). ``queries`` is (B, C, \\*(S * scale)) with two or three
    spatial axes, ``keys`` (B, C, \\*S), zero-padded; ``kernel_size`` is odd. Returns
    (B, kernel_size ** axes, \\*(S * scale)) with the neighbours in array order, as the weights of :func:`reassemble`.
    Raises :class:`~deconvseg.errors.InputError` if the shapes do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.ops import compare_neighbours
        >>> compare_neighbours(torch.rand(1, 4, 16, 16), torch.rand(1, 4, 8, 8), scale=2, kernel_size=3).shape
        torch.Size([1, 9, 16, 16])

    """
    _, factors = _check(keys, "keys", scale)
    expected = (*keys.shape[:2], *finer_size(keys.shape[2:], factors))
    if tuple(queries.shape) != expected:
        raise InputError(
            f"queries of shape {tuple(queries.shape)} do not fit keys of shape {tuple(keys.shape)} with scale={scale}: "
            f"give {expected}"
        )
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size={kernel_size}: give an odd number")
    return in_order_of(keys, reference.compare_neighbours(queries, keys.to(queries.dtype), factors, kernel_size))


def _check(image: Tensor, name: str, scale: int | Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Return the number of spatial axes and the scale of each."""
    axes = image.ndim - 2
    if axes not in (2, 3):
        raise InputError(f"{name} of shape {tuple(image.shape)}: give (B, C, *S) with 2 or 3 spatial axes")
    factors = (scale,) * axes if isinstance(scale, int) else tuple(scale)
    if len(factors) != axes or any(factor < 1 for factor in factors):
        raise InputError(f"scale={scale!r}: give a positive integer, or {axes} of them, one per axis")
    return axes, factors
