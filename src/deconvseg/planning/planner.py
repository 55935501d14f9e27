"""The choices: from a fingerprint, a recipe and the machine to a plan, each with its reason."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deconvseg.catalog import PRESETS
from deconvseg.data import Case, Dataset, LabelEncoding, Splits
from deconvseg.errors import InputError
from deconvseg.models import list_arguments, preset_arguments
from deconvseg.planning.fingerprint import ChannelStatistics, Fingerprint, take_fingerprint
from deconvseg.planning.machine import choose_device, measure_step
from deconvseg.planning.recipes import Recipe, get_recipe
from deconvseg.planning.schema import ChannelPlan, LabelPlan, ModelPlan, Plan, RegionPlan

# Patches: voxels at most, by device; a CPU gains more from many small steps than from few large ones.
_PATCH_VOXELS = {("cpu", 2): 256**2, ("cpu", 3): 40 * 56 * 40, ("gpu", 2): 512**2, ("gpu", 3): 128**3}
_BATCH = {("cpu", 2): 4, ("cpu", 3): 2, ("gpu", 2): 8, ("gpu", 3): 2}
_MOST_STAGES = {("cpu", 2): 5, ("cpu", 3): 4, ("gpu", 2): 6, ("gpu", 3): 5}
# Multiples of the lanes of a vector: the native kernels leave other widths to PyTorch.
_BASE_WIDTHS = {"cpu": (8, 16, 32, 48, 64), "gpu": (16, 32, 64)}
# A larger deconvolution costs a CPU more than it has been seen to bring (Deconver, Tables I-III).
_CPU_KERNEL = 3
# No axis is halved below this size, so that the deepest stage still sees a neighbourhood.
_SMALLEST_SIZE = 4
# Enough steps for a network to learn a small dataset, and the time that a user is thought to give without saying.
_STEPS_WANTED = 700
_DEFAULT_SECONDS = {"cpu": 15 * 60.0, "gpu": 60 * 60.0}
# Share of the time that is left for the network's own steps, after loading, optimiser and validation.
_STEP_SHARE = 0.75
_EPOCHS_WANTED = 20


def make_plan(
    dataset: Dataset,
    splits: Splits,
    *,
    model: str = "deconver",
    preset: str | None = None,
    recipe: str = "default",
    device: str = "auto",
    seconds: float | None = None,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> Plan:
    """Plan the training of a network on a dataset, from its training and validation cases alone.

    ``preset`` fixes the network, patch and batch to a paper's, and with recipe ``paper`` its epochs; otherwise they
    follow from the data and from what this machine is measured to do in ``seconds`` of training (by default 15 minutes
    on a CPU, an hour on a GPU). A dataset with an ignore label is an :class:`InputError`.
    """
    named = get_recipe(recipe)
    if preset is None:
        _check_sizable(model)
    else:
        preset_arguments(model, preset)
    if dataset.ignore_label is not None:
        raise InputError(
            f"{dataset.root}: the label {dataset.ignore_label} is declared to be ignored, which training "
            "cannot do yet; leave those cases out, or give their voxels a class"
        )
    device = choose_device(device)
    kind = "cpu" if device == "cpu" else "gpu"
    dataset = dataset.select([*splits.train, *splits.val])
    fingerprint = take_fingerprint(dataset, progress=progress)
    reasons = {"spacing": "median of the training cases"}
    if fingerprint.expanded_grey:
        reasons["channels"] = f"{fingerprint.expanded_grey} grey images are expanded to RGB"
    labels = _labels(dataset, fingerprint, reasons)
    regions = _regions(dataset, labels, named)
    outputs = len(labels.values) if regions is None else len(regions)
    channels = tuple(
        _channel(name, statistics, fingerprint.spatial_dims, reasons)
        for name, statistics in zip(dataset.channel_names, fingerprint.channels, strict=True)
    )
    ends: dict[str, Any] = {
        "in_channels": len(channels),
        "out_channels": outputs,
        "spatial_dims": fingerprint.spatial_dims,
    }
    seconds = seconds or _DEFAULT_SECONDS[kind]
    if preset is None:
        patch, strides = _patch(fingerprint, kind, reasons)
        config, batch, step = _network(model, ends, patch, strides, device, seconds, reasons)
    else:
        config, patch, batch = _from_preset(preset, model, ends)
        step = None
        reasons["model"] = reasons["patch_size"] = (
            f"preset {preset}: the paper's, whatever this machine and the time given"
        )
        if recipe == "paper":
            named = named.model_copy(update={"epochs": PRESETS[preset].epochs or named.epochs})
    return Plan(
        dataset=dataset.root.name,
        spatial_dims=3 if fingerprint.spatial_dims == 3 else 2,
        spacing=fingerprint.median_spacing,
        patch_size=patch,
        batch_size=batch,
        channels=channels,
        labels=labels,
        regions=regions,
        model=ModelPlan(name=model, config=config),
        recipe=_schedule(named, step, seconds, reasons),
        reasons=reasons,
    )


def _check_sizable(model: str) -> None:
    missing = {"widths", "strides"} - set(list_arguments(model))
    if missing:
        raise InputError(
            f"model {model!r} has no {' and '.join(sorted(missing))} to be fitted to the data and this machine: "
            "name a preset that has it, or plan another model and replace model.name and model.config in the plan"
        )


def _labels(dataset: Dataset, fingerprint: Fingerprint, reasons: dict[str, str]) -> LabelPlan:
    if dataset.foreground:
        encoding = LabelEncoding.foreground()
    elif dataset.label_names is not None:
        encoding = LabelEncoding.from_values(dataset.label_names, dataset.label_names)
    else:
        encoding = LabelEncoding.from_values(fingerprint.label_voxels)
    if len(encoding.values) < 2:
        raise InputError(f"{dataset.root}: every mask is empty; there is no class to learn")
    absent = [
        name
        for value, name in zip(encoding.values, encoding.names, strict=True)
        if value not in fingerprint.label_voxels
    ]
    if absent:
        reasons["labels"] = f"warning: no training or validation mask has a voxel of {', '.join(absent)}"
    return LabelPlan(values=encoding.values, names=encoding.names, foreground_only=encoding.foreground_only)


def _regions(dataset: Dataset, labels: LabelPlan, recipe: Recipe) -> tuple[RegionPlan, ...] | None:
    ids = {value: index for index, value in enumerate(labels.values)}
    if dataset.regions is not None:
        return tuple(
            RegionPlan(name=r.name, labels=tuple(ids[v] for v in r.labels), paints=ids[r.written_as])
            for r in dataset.regions
        )
    if not recipe.regions:
        return None
    return tuple(RegionPlan(name=name, labels=(i,), paints=i) for i, name in enumerate(labels.names) if i > 0)


def _channel(name: str, statistics: ChannelStatistics, spatial_dims: int, reasons: dict[str, str]) -> ChannelPlan:
    if name.upper() == "CT":
        reasons[f"channel {name}"] = "CT: foreground percentiles 0.5 and 99.5, then its mean and standard deviation"
        clip = (statistics.percentile_0_5, statistics.percentile_99_5)
        return ChannelPlan(
            name=name, normalisation="ct", clip=clip, mean=statistics.mean, std=max(statistics.std, 1e-6)
        )
    if spatial_dims == 3 and statistics.zero_fraction > 0.25:
        reasons[f"channel {name}"] = f"{statistics.zero_fraction:.0%} of the voxels are exactly zero: background"
        return ChannelPlan(name=name, normalisation="zscore_nonzero")
    return ChannelPlan(name=name, normalisation="zscore")


def _patch(
    fingerprint: Fingerprint, kind: str, reasons: dict[str, str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the patch, and the strides of each stage: an axis is halved as often as its size allows."""
    dims, median = fingerprint.spatial_dims, fingerprint.median_shape
    limit = _PATCH_VOXELS[kind, dims]
    size = [float(n) for n in median]
    while math.prod(size) > limit * 1.001:
        # The longest axes are cut first, and to the same length.
        longest = max(size)
        rest = [n for n in size if n < longest]
        count = len(size) - len(rest)
        size = [
            max(max(rest, default=1.0), (limit / math.prod(rest)) ** (1 / count)) if n == longest else n for n in size
        ]
    halvings = [min(_MOST_STAGES[kind, dims] - 1, max(0, int(math.log2(max(n, 1) / _SMALLEST_SIZE)))) for n in size]
    rounding = math.ceil if math.prod(median) <= limit else round
    patch = tuple(max(1, rounding(n / 2**h)) * 2**h for n, h in zip(size, halvings, strict=True))
    stages = max(halvings) + 1
    strides = tuple(tuple(2 if 0 < stage <= h else 1 for h in halvings) for stage in range(stages))
    reasons["patch_size"] = f"median shape {median} at the plan's spacing, at most {limit} voxels on this device"
    return patch, strides


def _network(
    model: str,
    ends: dict[str, Any],
    patch: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    device: str,
    seconds: float,
    reasons: dict[str, str],
) -> tuple[dict[str, Any], int, float]:
    """Return the widest network that makes enough steps in the time, its batch, and the seconds of one step."""
    kind = "cpu" if device == "cpu" else "gpu"
    allowed = seconds * _STEP_SHARE / _STEPS_WANTED
    batch = _BATCH[kind, ends["spatial_dims"]]
    chosen: tuple[dict[str, Any], int, float] | None = None
    measured = []
    bases = list(_BASE_WIDTHS[kind])
    while bases:
        widths = [min(bases[0] * 2**stage, 512) for stage in range(len(strides))]
        config = {**ends, "widths": widths, "strides": [list(s) for s in strides]}
        if kind == "cpu" and model == "deconver":
            config["kernel_size"] = _CPU_KERNEL
        step = measure_step(model, config, patch, batch, device)
        measured.append(f"width {bases[0]}, batch {batch}: " + ("out of memory" if step is None else f"{step:.2f} s"))
        if step is not None and (step <= allowed or (chosen is None and batch == 1)):
            chosen = config, batch, step
            bases.pop(0)
        elif chosen is None and batch > 1:
            # Even the narrowest network is too slow or too large: fewer patches a step.
            batch //= 2
        else:
            break
    if chosen is None:
        raise InputError(f"patch {patch}: not even the narrowest network fits into the device's memory")
    reasons["model"] = (
        f"{'widest' if chosen[2] <= allowed else 'none is fast enough, so the narrowest'} of the measured networks "
        f"to make {_STEPS_WANTED} steps in {_duration(seconds)} (at most {allowed:.2f} s a step; {'; '.join(measured)})"
    )
    return chosen


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _from_preset(name: str, model: str, ends: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, ...], int]:
    preset = PRESETS[name]
    if preset.ends["spatial_dims"] != ends["spatial_dims"]:
        raise InputError(
            f"preset {name} is a {preset.ends['spatial_dims']}D {model}, "
            f"but a {ends['spatial_dims']}D {model} is needed here; choose another preset or leave it out"
        )
    # A plan is JSON, so its sequences are lists.
    config = json.loads(json.dumps({**preset_arguments(model, name), **ends}))
    return config, preset.patch_size, preset.batch_size or _BATCH["gpu", ends["spatial_dims"]]


def _schedule(recipe: Recipe, step: float | None, seconds: float, reasons: dict[str, str]) -> Recipe:
    """Fit the default recipe's epochs into the time; the paper's recipe keeps the paper's number."""
    if recipe.name != "default" or step is None:
        return recipe
    steps = max(20, int(seconds * _STEP_SHARE / step))
    per_epoch = max(5, min(250, steps // _EPOCHS_WANTED))
    reasons["recipe"] = f"about {steps} steps of {step:.2f} s fit into {_STEP_SHARE:.0%} of {_duration(seconds)}"
    return recipe.model_copy(
        update={"epochs": max(1, steps // per_epoch), "steps_per_epoch": per_epoch, "validate_every": 4}
    )
