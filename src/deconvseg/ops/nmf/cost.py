"""Cost of the factorisation: the sweeps as defined, for any implementation."""

import math
from collections.abc import Sequence

from torch import Tensor

from deconvseg.ops.cost import Cost


def factorise(x: Tensor, start: Tensor, *, iterations: int = 5) -> Cost:
    """Return the cost of all sweeps: X G, XᵀF, GᵀG, FᵀF, and per entry the other columns' terms and a division."""
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
    """Return the cost of factorising every window for each shift, of the products of the factors, and of the mean."""
    positions = start.shape[0]
    matrices = x.new_empty((x.numel() // (positions * head_dim), head_dim, positions), device="meta")
    each = factorise(matrices, start, iterations=iterations) + Cost(x.numel() * start.shape[1])
    return each * len(shifts) + Cost(0, len(shifts) * x.numel())
