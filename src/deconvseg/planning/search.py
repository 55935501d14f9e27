"""Search for a network, patch and batch that fit into time and memory, by measuring candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deconvseg.errors import InputError
from deconvseg.models import DeviceKind, Grid
from deconvseg.planning.candidates import Candidates, Space, halve
from deconvseg.planning.measuring import Measure, StepCost
from deconvseg.planning.request import ASKED
from deconvseg.units import format_bytes, format_time

# Enough steps for a network to learn a small dataset.
STEPS_WANTED = 700
# Share of the time for the steps themselves; the rest is for loading and validation.
STEP_SHARE = 0.75


@dataclass(frozen=True)
class Budget:
    """Limits of a training: ``seconds`` and ``memory`` bytes; the largest case needs ``case_bytes`` of them.

    With several ``processes``, each may use that memory and processes its share of the batch. The training only ends
    after ``seconds`` if it is ``limited``; otherwise they are the default time that it is planned for.
    """

    measure: Measure
    kind: DeviceKind
    seconds: float
    memory: int
    case_bytes: int
    regions: bool
    processes: int = 1
    limited: bool = True

    @property
    def step(self) -> float:
        """The most seconds per step that allow enough steps."""
        return self.seconds * STEP_SHARE / STEPS_WANTED

    def share(self, batch: int) -> int:
        """Return the number of samples of a batch for each process, at least one."""
        return max(1, batch // self.processes)

    def total(self, cost: StepCost) -> int:
        """Return the peak memory of a training in bytes: that of a step, or of a whole case outside the steps."""
        # Whole cases are never in GPU memory.
        return cost.memory if self.kind == "gpu" else max(cost.memory, cost.base + self.case_bytes)


@dataclass(frozen=True)
class Found:
    """A network, patch and batch, with the cost of a step (per process, for its share of the batch)."""

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
    """Descriptions of the candidates measured so far, and why batches were made smaller for the current patch."""

    texts: list[str] = field(default_factory=list)
    least: int | None = None
    obstacles: list[str] = field(default_factory=list)

    def tell(self, label: str, patch: Sequence[int], batch: int, cost: StepCost | None, budget: Budget) -> bool:
        """Record a trial and return whether it fits into memory."""
        text = f"{label}, patch {'x'.join(map(str, patch))}, batch {batch}: "
        if cost is None:
            self.texts.append(f"{text}more than {format_bytes(budget.memory)} of memory")
            return False
        self.least = cost.memory if self.least is None else min(self.least, cost.memory)
        self.texts.append(f"{text}{cost.seconds:.2f} s, {format_bytes(cost.memory)}")
        return cost.memory <= budget.memory


def search(space: Space, budget: Budget) -> Found:
    """Return the widest network that can do enough steps in the time, with the largest patch that fits into memory.

    Raises :class:`InputError` if no candidate fits into memory.
    """
    trials = _Trials()
    for candidates in space:
        chosen = _widest(candidates, budget, trials)
        if chosen is None:
            continue
        config, share, cost = chosen
        grid = candidates.grid
        reasons = {
            **_geometry_reasons(grid),
            "patch_size": candidates.reason,
            "batch_size": _batch_reason(candidates, share, budget, trials.obstacles),
            "model": _model_reason(candidates, cost, budget, trials),
        }
        return Found(config, candidates.patch, share * budget.processes, cost, grid.whole, reasons)
    raise InputError(_lacking(candidates, budget, trials))


def _widest(candidates: Candidates, budget: Budget, trials: _Trials) -> tuple[dict[str, Any], int, StepCost] | None:
    batch = budget.share(candidates.batch)
    # A requested batch size is not reduced.
    least = batch if candidates.request.batch_size is not None else 1
    chosen: tuple[dict[str, Any], int, StepCost] | None = None
    waiting = list(candidates.sizes)
    trials.obstacles.clear()
    while waiting:
        label, config = waiting[0]
        cost = budget.measure(candidates.request.model, config, candidates.patch, batch, regions=budget.regions)
        fits = trials.tell(label, candidates.patch, batch, cost, budget)
        # If even the narrowest is too slow, accept a wider one that is not slower.
        allowed = budget.step if chosen is None else max(budget.step, chosen[2].seconds)
        if fits and cost is not None and (cost.seconds <= allowed or (chosen is None and batch == least)):
            chosen = config, batch, cost
            waiting.pop(0)
        elif chosen is None and batch > least:
            # Even the narrowest network is too slow or too large: use fewer patches per step.
            trials.obstacles.append("too slow" if fits else "too large for the memory")
            batch //= 2
        else:
            break
    return chosen


def _lacking(candidates: Candidates, budget: Budget, trials: _Trials) -> str:
    """Return the error message that no candidate fits into memory, with the needed memory if it is known."""
    request, patch = candidates.request, candidates.patch
    if request.patch_size is None and request.batch_size is None:
        needed = "" if trials.least is None else f": the least that was measured is {format_bytes(trials.least)}"
        return (
            f"{format_bytes(budget.memory)} of memory do not suffice for the narrowest {request.model} on patches of "
            f"{list(patch)}{needed}; give more `memory` where the machine has it, or choose a smaller network"
        )
    share = budget.share(candidates.batch) if request.batch_size is not None else 1
    needed = _estimated(candidates, share, budget)
    size = "x".join(map(str, patch))
    return (
        f"a batch of {share} with patches of {size} needs {needed} of memory with the narrowest {request.model}, and "
        f"{format_bytes(budget.memory)} may be taken: ask for a smaller `patch_size` or `batch_size`, or give more "
        "`memory` where the machine has it"
    )


def _estimated(candidates: Candidates, share: int, budget: Budget) -> str:
    """Describe the memory of a batch that does not fit, estimated from a patch of half the size."""
    model, (_, config) = candidates.request.model, candidates.sizes[0]
    smaller, its_config = candidates.patch, config
    while True:
        halved = halve(model, its_config, smaller)
        if halved is None:
            return f"more than {format_bytes(budget.memory)}"
        smaller, its_config = halved
        cost = budget.measure(model, its_config, smaller, 1, regions=budget.regions)
        if cost is not None:
            voxels = math.prod(candidates.patch) / math.prod(smaller)
            return f"about {format_bytes(cost.scaled(voxels * share, inference=voxels).memory)}"


def _batch_reason(candidates: Candidates, share: int, budget: Budget, obstacles: Sequence[str]) -> str:
    if candidates.request.batch_size is not None:
        reason = ASKED
    elif share == (usual := budget.share(candidates.batch)):
        reason = "the usual on this device"
    else:
        why = " or ".join(dict.fromkeys(obstacles))
        reason = f"fewer than the usual {usual} on this device, with which even the narrowest network is {why}"
    if budget.processes > 1:
        reason += f"; {share} on each of {budget.processes} devices, which is what was measured"
    return reason


def _model_reason(candidates: Candidates, cost: StepCost, budget: Budget, trials: _Trials) -> str:
    enough, width = cost.seconds <= budget.step, candidates.request.width
    asked = "" if width is None else f"of width {width}, {ASKED}; "
    return (
        f"{asked}{'widest' if enough else 'none is fast enough, so the fastest'} of the measured networks to make "
        f"{STEPS_WANTED} steps in {format_time(budget.seconds)} (at most {budget.step:.2f} s a step) within "
        f"{format_bytes(budget.memory)} of memory: {'; '.join(trials.texts)}"
    )


def _geometry_reasons(grid: Grid) -> dict[str, str]:
    """Return reasons for arguments that follow from the grid; those for arguments that a network lacks are ignored."""
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
        "model.config.widths": (
            f"{'multiples of 8, which the kernels need' if grid.width is None else f'the first {ASKED}'}; doubled with "
            "each stage, to 512 at most"
        ),
        "model.config.depths": "the network's own",
    }
