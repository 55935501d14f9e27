"""Cost of content-aware reassembly and of the similarity of neighbours."""

from collections.abc import Sequence

from torch import Tensor

from deconvseg.ops.cost import Cost


def reassemble(features: Tensor, weights: Tensor, *, scale: int | Sequence[int]) -> Cost:
    """Return the cost of a weighted sum of K^d neighbours for each output element."""
    return Cost(macs=features.shape[1] * weights.numel())


def compare_neighbours(queries: Tensor, keys: Tensor, *, scale: int | Sequence[int], kernel_size: int) -> Cost:
    """Return the cost of an inner product of C channels with K^d neighbours for each output position."""
    return Cost(macs=queries.numel() * kernel_size ** (queries.ndim - 2))
