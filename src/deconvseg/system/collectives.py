"""Collective operations over the processes of one training: sums, means, maxima, rows and texts.

Without a process group every function returns the value of the single process.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def rank_count() -> int:
    """Return the number of processes in the group; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(local: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, differentiable under data-parallel training."""
    if rank_count() == 1:
        return local
    total: Tensor = _SumOverRanks.apply(local)  # type: ignore[no-untyped-call]
    return total


def mean_over_ranks(value: Tensor) -> float:
    """Return the mean of a scalar over all processes."""
    return float(sum_over_ranks(value.detach())) / rank_count()


def largest_over_ranks(values: Tensor) -> Tensor:
    """Return the elementwise maximum of a tensor over all processes."""
    if rank_count() > 1:
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def leaders_value(value: float) -> float:
    """Return the value of rank 0 on every process, so that all processes take the same decision."""
    shared = torch.tensor(value, dtype=torch.float64)
    if rank_count() > 1:
        dist.broadcast(shared, 0)
    return float(shared)


def rows_of_ranks(rows: Tensor, count: int) -> Tensor:
    """Return the ``count`` rows that are dealt out among the processes (row i to rank i modulo the ranks), in order.

    Every process holds the same number of rows; rows beyond ``count`` are padding and are dropped.
    """
    if rank_count() == 1:
        return rows[:count]
    gathered = [torch.zeros_like(rows) for _ in range(rank_count())]
    dist.all_gather(gathered, rows)
    return torch.stack(gathered, dim=1).flatten(0, 1)[:count]


def texts_of_ranks(text: str) -> list[str]:
    """Return the text of every process, in order."""
    if rank_count() == 1:
        return [text]
    content = torch.tensor(list(text.encode()), dtype=torch.uint8)
    longest = int(largest_over_ranks(torch.tensor(len(content))))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(content)] = content
    gathered = [torch.zeros_like(padded) for _ in range(rank_count())]
    dist.all_gather(gathered, padded)
    return [bytes(item.tolist()).rstrip(b"\0").decode() for item in gathered]


class _SumOverRanks(torch.autograd.Function):
    """All-reduce; the gradient is multiplied by the number of processes, by which data-parallel training divides."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process differentiates the same function of the sum, so no communication is needed here.
        return gradient * dist.get_world_size()
