"""What factorising costs: the sweeps as they are defined, whatever computes them."""

import math
from collections.abc import Sequence

from torch import Tensor

from deconvseg.ops.cost import Cost


def factorise(x: Tensor, start: Tensor, *, iterations: int = 5) -> Cost:
    """A sweep: X G, XᵀF, GᵀG, FᵀF, and for each entry of a column the other columns' shares and a division."""
    *batch, rows, columns = x.shape
    rank = start.shape[1]
    products = 2 * rows * columns * rank + (rows + columns) * rank * (2 * rank - 1)
    return Cost(products, (rows + columns) * rank) * (iterations * math.prod(batch))


def windowed(
    x: Tensor,
    start: Tensor,
    *,
    window: int | Sequence[int],
    shifts: Sequence[int | Sequence[int]],
    head_dim: int,
    iterations: int = 5,
) -> Cost:
    """For each shift, the factorisation of every window and the product of its factors; then the mean."""
    positions = start.shape[0]
    matrices = x.new_empty((x.numel() // (positions * head_dim), head_dim, positions), device="meta")
    each = factorise(matrices, start, iterations=iterations) + Cost(x.numel() * start.shape[1])
    return each * len(shifts) + Cost(0, len(shifts) * x.numel())
