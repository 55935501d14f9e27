"""What the processes of one training work out together: sums, extremes, rows and texts of all of them.

Every function gives what one process alone would have where no others are connected.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def rank_count() -> int:
    """Return the number of connected processes; 1 where there is one."""
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
    """Return the largest of each element over all processes."""
    if rank_count() > 1:
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def leaders_value(value: float) -> float:
    """Return what the first process has, so that all decide alike."""
    shared = torch.tensor(value, dtype=torch.float64)
    if rank_count() > 1:
        dist.broadcast(shared, 0)
    return float(shared)


def rows_of_ranks(rows: Tensor, count: int) -> Tensor:
    """Return the ``count`` rows that the processes have dealt out among themselves, in their order.

    Every process has as many rows; those beyond the count are repetitions.
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
    """All-reduce, whose gradient is multiplied by the number of processes: data-parallel training divides by it."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process differentiates the same function of the sum, so there is nothing more to gather.
        return gradient * dist.get_world_size()
