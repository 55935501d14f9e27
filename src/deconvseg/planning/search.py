"""The search for a network, a patch and a batch that fit into time and memory, by measuring candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.models import DeviceKind, Grid, Size, create_model
from deconvseg.planning.fitting import fit_network
from deconvseg.planning.measuring import Measure, StepCost
from deconvseg.planning.patch import PATCH_VOXELS, plan_grid
from deconvseg.units import format_bytes, format_time

# Enough steps for a network to learn a small dataset.
STEPS_WANTED = 700
# Share of the time that is left for the steps themselves, after loading and validation.
STEP_SHARE = 0.75
# The papers' batches on a GPU; on a CPU as many as still make hundreds of steps.
_BATCH: dict[tuple[DeviceKind, int], int] = {("cpu", 2): 4, ("cpu", 3): 2, ("gpu", 2): 8, ("gpu", 3): 2}
# How many times fewer voxels a patch may get where memory is short; below an eighth it sees too little.
_SHRINKING = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Budget:
    """What a training may take: ``seconds``, and ``memory`` bytes, of which the largest case needs ``case_bytes``.

    Of several ``processes`` each may take that memory, and takes its share of the batch.
    """

    measure: Measure
    kind: DeviceKind
    seconds: float
    memory: int
    case_bytes: int
    regions: bool
    processes: int = 1

    @property
    def step(self) -> float:
        """The seconds that a step may take, so that there are enough of them."""
        return self.seconds * STEP_SHARE / STEPS_WANTED

    def share(self, batch: int) -> int:
        """Return the samples of a usual batch that each process takes, at least one."""
        return max(1, batch // self.processes)

    def total(self, cost: StepCost) -> int:
        """Return the bytes of a whole training: its steps, or a whole case before and after them."""
        # Whole cases never lie in the memory of a GPU.
        return cost.memory if self.kind == "gpu" else max(cost.memory, cost.base + self.case_bytes)


@dataclass(frozen=True)
class Found:
    """A network, a patch and a batch, with what a step of them takes (of each process, its share of the batch)."""

    config: dict[str, Any]
    patch: tuple[int, ...]
    batch: int
    cost: StepCost
    whole: bool
    reasons: Mapping[str, str]
    warnings: Sequence[str] = ()
    preset: str | None = None
    measured: bool = True


@dataclass
class _Trials:
    """What has been measured so far, in words."""

    texts: list[str] = field(default_factory=list)
    least: int | None = None

    def tell(self, label: str, patch: Sequence[int], batch: int, cost: StepCost | None, budget: Budget) -> bool:
        """Note a trial; return whether it fits into memory."""
        text = f"{label}, patch {'x'.join(map(str, patch))}, batch {batch}: "
        if cost is None:
            self.texts.append(f"{text}more than {format_bytes(budget.memory)} of memory")
            return False
        self.least = cost.memory if self.least is None else min(self.least, cost.memory)
        self.texts.append(f"{text}{cost.seconds:.2f} s, {format_bytes(cost.memory)}")
        return cost.memory <= budget.memory


def search(
    model: str,
    ends: Mapping[str, Any],
    shape: Sequence[int],
    spacing: Sequence[float],
    slices: int | None,
    budget: Budget,
) -> Found:
    """Return the widest network that makes enough steps in the time, on the largest patch that fits into memory.

    Raises :class:`InputError` where nothing fits into memory.
    """
    trials = _Trials()
    for shrink in _SHRINKING:
        grid, patch_reason = plan_grid(shape, spacing, budget.kind, slices, shrink)
        patch, sizes = fit_network(model, ends, grid)
        chosen = _widest(model, patch, grid, sizes, budget, trials)
        if chosen is None:
            continue
        config, share, cost = chosen
        if shrink > 1:
            patch_reason += f"; {shrink:g} times fewer than usual, as memory allows no more"
        reasons = {
            **_geometry_reasons(grid),
            "patch_size": patch_reason,
            "batch_size": _batch_reason(share, _BATCH[budget.kind, grid.seen_dims], budget),
            "model": _model_reason(cost, budget, trials),
        }
        return Found(config, patch, share * budget.processes, cost, grid.whole, reasons)
    needed = "" if trials.least is None else f": the least that was measured is {format_bytes(trials.least)}"
    raise InputError(
        f"{format_bytes(budget.memory)} of memory do not suffice for the narrowest {model} on patches of "
        f"{list(patch)}{needed}; give more `memory` where the machine has it, or choose a smaller network"
    )


def _widest(
    model: str, patch: tuple[int, ...], grid: Grid, sizes: Sequence[Size], budget: Budget, trials: _Trials
) -> tuple[dict[str, Any], int, StepCost] | None:
    batch = budget.share(_BATCH[budget.kind, grid.seen_dims])
    chosen: tuple[dict[str, Any], int, StepCost] | None = None
    waiting = list(sizes)
    while waiting:
        label, config = waiting[0]
        cost = budget.measure(model, config, patch, batch, regions=budget.regions)
        fits = trials.tell(label, patch, batch, cost, budget)
        # Where even the narrowest is too slow, a wider one that is no slower is as good.
        allowed = budget.step if chosen is None else max(budget.step, chosen[2].seconds)
        if fits and cost is not None and (cost.seconds <= allowed or (chosen is None and batch == 1)):
            chosen = config, batch, cost
            waiting.pop(0)
        elif chosen is None and batch > 1:
            # Even the narrowest network is too slow or too large: fewer patches a step.
            batch //= 2
        else:
            break
    return chosen


def _batch_reason(share: int, usual: int, budget: Budget) -> str:
    reason = (
        f"{'the usual' if share == budget.share(usual) else 'fewer than usual'} on this device; fewer where even the "
        "narrowest network is too slow or too large"
    )
    if budget.processes > 1:
        reason += f"; {share} on each of {budget.processes} devices, which is what was measured"
    return reason


def _model_reason(cost: StepCost, budget: Budget, trials: _Trials) -> str:
    enough = cost.seconds <= budget.step
    return (
        f"{'widest' if enough else 'none is fast enough, so the narrowest'} of the measured networks to make "
        f"{STEPS_WANTED} steps in {format_time(budget.seconds)} (at most {budget.step:.2f} s a step) within "
        f"{format_bytes(budget.memory)} of memory: {'; '.join(trials.texts)}"
    )


def _geometry_reasons(grid: Grid) -> dict[str, str]:
    """Return the reasons of arguments that follow from the grid; a network that lacks one of them has no such key."""
    strides = "an axis is halved while at least 4 voxels are left of it"
    if grid.anisotropic:
        strides += (
            ", and only among those within twice the finest spacing: coarse ones wait until the others are as coarse"
        )
    kernels = "as far along every axis"
    if grid.slices is not None:
        kernels = "1 across the slices, which are seen one by one"
    elif grid.anisotropic:
        kernels = "1 along an axis as long as its spacing is more than twice the finest"
    return {
        "model.config.strides": strides,
        "model.config.kernel_size": kernels,
        "model.config.widths": "multiples of 8, which the kernels need; doubled with each stage, to 512 at most",
        "model.config.depths": "the network's own",
    }


def measure_preset(name: str, model: str, config: dict[str, Any], budget: Budget) -> Found:
    """Take a paper's network, patch and batch, and find out what they would take here.

    On a CPU a smaller patch is measured where the paper's would take minutes, and the rest is estimated by voxels.
    """
    preset = PRESETS[name]
    patch = preset.patch_size
    batch = preset.batch_size or _BATCH["gpu", config["spatial_dims"]]
    share = budget.share(batch)
    tried, tried_batch, tried_config = patch, share, config
    if budget.kind == "cpu":
        tried, tried_config = _smaller(model, config, patch)
        tried_batch = 1
    cost = budget.measure(model, tried_config, tried, tried_batch, regions=budget.regions)
    if cost is None:
        raise InputError(
            f"preset {name}: {model} does not fit into {format_bytes(budget.memory)} of memory, even for one patch of "
            f"{list(tried)}; choose another preset, or leave it out to have a network planned for this machine"
        )
    voxels = math.prod(patch) / math.prod(tried)
    same = (tried, tried_batch) == (patch, share)
    if not same:
        cost = cost.scaled(voxels * share / tried_batch, inference=voxels)
    reason = f"preset {name}: the paper's, whatever this machine and the time given"
    reasons = dict.fromkeys(("model", "patch_size", "batch_size"), reason)
    return Found(config, patch, batch, cost, False, reasons, preset=name, measured=same)


def _smaller(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Halve a patch along all axes until it is one of a CPU, as far as the network allows."""
    limit = PATCH_VOXELS["cpu", len(patch)]
    while math.prod(patch) > limit:
        half = tuple(n // 2 for n in patch)
        smaller = {**config, **({"image_size": list(half)} if config.get("image_size") is not None else {})}
        with torch.device("meta"):
            multiple = create_model(model, **smaller).size_multiple
        if any(n % m for n, m in zip(half, multiple, strict=True)):
            break
        patch, config = half, smaller
    return patch, config
