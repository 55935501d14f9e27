"""The candidate networks and patches of a plan, before measurements."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from deconvseg.errors import InputError
from deconvseg.models import DeviceKind, Grid, Size, create_model
from deconvseg.planning.fitting import fit_network
from deconvseg.planning.patch import plan_grid
from deconvseg.planning.request import Request

# On a GPU the batch sizes of the papers; on a CPU batches that allow hundreds of steps.
USUAL_BATCH: dict[tuple[DeviceKind, int], int] = {("cpu", 2): 4, ("cpu", 3): 2, ("gpu", 2): 8, ("gpu", 3): 2}
# Divisors of a patch's voxels if memory is short; with less than an eighth the patch has too little context.
_SHRINKING = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Space:
    """The networks and patches that a request allows, for data of a median ``shape`` at a spacing.

    ``ends`` are the arguments that are determined by the data, ``slices`` is the axis along which volumes are cut.
    """

    request: Request
    ends: Mapping[str, Any]
    shape: Sequence[int]
    spacing: Sequence[float]
    slices: int | None
    kind: DeviceKind

    def __iter__(self) -> Iterator["Candidates"]:
        """Yield the networks for the usual patch, then for successively smaller ones unless a patch is requested."""
        request = self.request
        asked = request.patch(len(self.shape), self.slices)
        for shrink in _SHRINKING if asked is None else _SHRINKING[:1]:
            grid, reason = plan_grid(self.shape, self.spacing, self.kind, self.slices, shrink, asked=asked)
            grid = replace(grid, width=request.width)
            patch, sizes = fit_network(request.model, {**self.ends, **request.arguments}, grid)
            if shrink > 1:
                reason += f"; {shrink:g} times fewer than usual, because memory is limited"
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
        """The batch size that is tried first: the requested or the usual one."""
        return self.request.batch_size or USUAL_BATCH[self.grid.kind, self.grid.seen_dims]


def halve(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> tuple[tuple[int, ...], dict[str, Any]] | None:
    """Return the patch of half the size and its network; None if the network accepts no smaller one.

    All axes are halved if the network accepts that size, otherwise all but the shortest.
    """
    most = max((n for n in patch if n > 1), default=1)
    least = min((n for n in patch if n > 1), default=1)
    for kept in (1, least) if least < most else (1,):
        half = tuple(n if n in (1, kept) else n // 2 for n in patch)
        if half != patch and (smaller := _accepted(model, config, half)) is not None:
            return half, smaller
    return None


def _accepted(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> dict[str, Any] | None:
    """Return the network's arguments for a patch, or None if the network does not accept that size."""
    smaller = for_patch(config, patch)
    try:
        with torch.device("meta"):
            multiple = create_model(model, **smaller).size_multiple
    except InputError:
        # The size is an argument of the network, which refuses it.
        return None
    return None if any(n % m for n, m in zip(patch, multiple, strict=True)) else smaller


def for_patch(config: dict[str, Any], patch: Sequence[int]) -> dict[str, Any]:
    """Return a network's arguments for a patch, with its size if the network has such an argument."""
    return {**config, "image_size": list(patch)} if config.get("image_size") is not None else config
