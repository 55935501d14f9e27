"""The networks and patches that a plan may have, before any of them is measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from deconvseg.models import DeviceKind, Grid, Size, create_model
from deconvseg.planning.fitting import fit_network
from deconvseg.planning.patch import plan_grid
from deconvseg.planning.request import Request

# The papers' batches on a GPU; on a CPU as many as still make hundreds of steps.
USUAL_BATCH: dict[tuple[DeviceKind, int], int] = {("cpu", 2): 4, ("cpu", 3): 2, ("gpu", 2): 8, ("gpu", 3): 2}
# How many times fewer voxels a patch may get where memory is short; below an eighth it sees too little.
_SHRINKING = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Space:
    """The networks and patches among which a request leaves a choice, for data of a median ``shape`` at a spacing.

    ``ends`` are the arguments that follow from the data, ``slices`` the axis along which volumes are cut.
    """

    request: Request
    ends: Mapping[str, Any]
    shape: Sequence[int]
    spacing: Sequence[float]
    slices: int | None
    kind: DeviceKind

    def __iter__(self) -> Iterator["Candidates"]:
        """Yield the networks for the usual patch, and for smaller and smaller ones unless one is asked for."""
        request = self.request
        asked = request.patch(len(self.shape), self.slices)
        for shrink in _SHRINKING if asked is None else _SHRINKING[:1]:
            grid, reason = plan_grid(self.shape, self.spacing, self.kind, self.slices, shrink, asked=asked)
            grid = replace(grid, width=request.width)
            patch, sizes = fit_network(request.model, {**self.ends, **request.arguments}, grid)
            if shrink > 1:
                reason += f"; {shrink:g} times fewer than usual, as memory allows no more"
            yield Candidates(request, grid, patch, sizes, reason)


@dataclass(frozen=True)
class Candidates:
    """The sizes of a network for one patch, narrowest first, and the reason for the patch."""

    request: Request
    grid: Grid
    patch: tuple[int, ...]
    sizes: Sequence[Size]
    reason: str

    @property
    def batch(self) -> int:
        """The batch that is tried first: the one that is asked for, or the usual one."""
        return self.request.batch_size or USUAL_BATCH[self.grid.kind, self.grid.seen_dims]


def halve(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> tuple[tuple[int, ...], dict[str, Any]] | None:
    """Return the patch of half the size along all axes, and the network for it; None where it does not take that."""
    half = tuple(n if n == 1 else n // 2 for n in patch)
    smaller = for_patch(config, half)
    with torch.device("meta"):
        multiple = create_model(model, **smaller).size_multiple
    if half == patch or any(n % m for n, m in zip(half, multiple, strict=True)):
        return None
    return half, smaller


def for_patch(config: dict[str, Any], patch: Sequence[int]) -> dict[str, Any]:
    """Return a network's arguments for a patch, where they name its size."""
    return {**config, "image_size": list(patch)} if config.get("image_size") is not None else config
