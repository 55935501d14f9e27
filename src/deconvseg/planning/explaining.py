"""Explanation of a plan: the data, the choices with their reasons, and the predicted cost."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.data import list_names
from deconvseg.planning.fingerprint import Spread
from deconvseg.planning.parts import DataSummary
from deconvseg.planning.schema import Plan
from deconvseg.text import number_of
from deconvseg.units import format_bytes, format_time


@dataclass(frozen=True)
class Section:
    """A section of the explanation: a title, column headings and rows of texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def explain(plan: Plan) -> tuple[Section, ...]:
    """Return the sections of a readable explanation of a plan.

    For a value that was changed after planning, the change is stated instead of the planner's reason.

    Example:
        >>> from deconvseg.planning import explain, read_plan
        >>> [section.title for section in explain(read_plan("RUN/plan.json"))][:2]
        ['Data', 'Classes']

    """
    sections = [] if plan.data is None else list(_data(plan, plan.data))
    sections.append(Section("Choices", ("choice", "value", "why"), tuple(_choices(plan))))
    sections.append(Section("What it takes", ("", "predicted", ""), tuple(_costs(plan))))
    if plan.warnings:
        sections.append(Section("Look at", ("",), tuple((warning,) for warning in plan.warnings)))
    return tuple(sections)


def _unit(plan: Plan, spacing: Sequence[float]) -> str:
    """Return the unit of lengths: pixels for pictures whose files give no pixel size (spacing one), else mm."""
    return "pixels" if plan.spatial_dims == 2 and set(spacing) == {1.0} else "mm"


def _data(plan: Plan, data: DataSummary) -> Iterator[Section]:
    unit = _unit(plan, data.spacings[1])
    rows = [
        ("cases", f"{data.cases}", _excluded(plan)),
        ("shape", _sizes(data.shapes[1]), f"{_sizes(data.shapes[0])} to {_sizes(data.shapes[2])}"),
        (f"spacing, {unit}", _sizes(data.spacings[1]), f"{_sizes(data.spacings[0])} to {_sizes(data.spacings[2])}"),
    ]
    if data.orientations:
        counts = sorted(data.orientations.items(), key=lambda item: -item[1])
        rows.append(("orientation", ", ".join(f"{code} ({count})" for code, count in counts), ""))
    for channel, statistics in zip(plan.channels, data.channels, strict=False):
        values = f"{statistics.mean:.4g} ± {statistics.std:.4g} in the foreground"
        spread = f"{statistics.percentile_0_5:.4g} to {statistics.percentile_99_5:.4g} (0.5th and 99.5th percentile)"
        rows.append((f"channel {channel.name}", values, spread))
    yield Section("Data", ("", "median", "spread"), tuple(rows))
    names = dict(zip(plan.labels.values, plan.labels.names, strict=True))
    volume = "volume, mm³" if plan.spatial_dims == 3 else f"area, {'pixels' if unit == 'pixels' else 'mm²'}"
    classes = [
        (
            names.get(entry.value, str(entry.value)),
            f"{entry.cases}",
            f"{entry.share.median:.2%}",
            _spread(entry.volume),
            f"{entry.components / max(1, entry.cases):.3g}",
            "" if entry.component_volume is None else _spread(entry.component_volume),
        )
        for entry in data.classes
        if entry.value
    ]
    headings = ("class", "cases", "share", f"{volume} (5 % / median / 95 %)", "parts a case", "size of a part")
    yield Section("Classes", headings, tuple(classes))


def _excluded(plan: Plan) -> str:
    """Return a phrase about the excluded cases."""
    listed = [f"{case} ({reason})" if reason else case for case, reason in plan.excluded.items()]
    return f"{len(listed)} more are left out as asked: {list_names(listed)}" if listed else ""


def _choices(plan: Plan) -> Iterator[tuple[str, str, str]]:
    reasons = plan.reasons
    yield "classes", ", ".join(plan.labels.names), reasons.get("labels", "")
    outputs = "softmax" if plan.regions is None else f"a sigmoid each: {', '.join(plan.output_names)}"
    yield "outputs", outputs, reasons.get("regions", "")
    for channel in plan.channels:
        yield f"channel {channel.name}", channel.normalisation, reasons.get(f"channel {channel.name}", "")
    slices = plan.spatial_dims == 3 and 1 in plan.patch_size
    yield "dimensions", "2D slices" if slices else f"{plan.spatial_dims}D", reasons.get("spatial_dims", "")
    yield f"spacing, {_unit(plan, plan.spacing)}", _sizes(plan.spacing), reasons.get("spacing", "")
    if plan.resize is not None:
        yield "resized to", _sizes(plan.resize), reasons.get("resize", "")
    if plan.crop_margin is not None:
        margin = f"the non-zero box and {plan.crop_margin} around it"
        yield "cropped to", margin, reasons.get("crop_margin", "")
    if plan.normalise_first:
        yield "normalised", "before resampling", reasons.get("normalise_first", "")
    predicted = (
        f"the box of non-zero {'pixels' if plan.spatial_dims == 2 else 'voxels'}"
        if plan.crop_to_nonzero
        else "the whole image"
        if plan.crop_margin is None
        else "all that is not cropped"
    )
    yield "predicted", predicted, reasons.get("crop_to_nonzero", "")
    yield "patch", _sizes(plan.patch_size), reasons.get("patch_size", "")
    yield "batch", f"{plan.batch_size}", reasons.get("batch_size", "")
    yield "network", plan.model.name, reasons.get("model", "")
    ends = ("in_channels", "out_channels", "spatial_dims")
    for key, value in plan.model.config.items():
        if key not in ends:
            yield f"  {key}", _compact(value), reasons.get(f"model.config.{key}", "")
    recipe = plan.recipe
    yield "recipe", recipe.name, reasons.get("recipe.name", "")
    each = recipe.steps_per_epoch
    steps = "one patch of each training case" if each is None else number_of(each, "step")
    yield "  epochs", f"{recipe.epochs} of {steps}", reasons.get("recipe.epochs", "")
    yield "  learning rate", f"{recipe.learning_rate:g}", reasons.get("recipe.learning_rate", "")
    sampled = f"{recipe.foreground_oversampling:.0%}"
    yield "  foreground patches", sampled, reasons.get("recipe.foreground_oversampling", "")
    mirrored = recipe.augmentation.mirrored(plan.spatial_dims)
    axes = f"axes {', '.join(map(str, mirrored))}" if mirrored else "none"
    yield "  mirrored", axes, reasons.get("recipe.augmentation.flip_axes", "")
    yield "  validation", _validation(plan), reasons.get("recipe.validate_every", "")
    loss = plan.training_loss().loss.title
    yield "  loss", loss, reasons.get("recipe.batch_dice", "") if "over the " in loss else ""


def _validation(plan: Plan) -> str:
    """Return when cases are validated; the planner's reason has their number."""
    recipe = plan.recipe
    often = "every epoch" if recipe.validate_every == 1 else f"every {recipe.validate_every} epochs"
    if recipe.weights == "best":
        return f"{often}; it selects the weights"
    given = "recipe.validation_cases" in plan.changed_by_hand or "recipe.validate_every" not in plan.reasons
    return f"{often}, {number_of(recipe.validation_cases, 'case')} at most" if given else often


def _costs(plan: Plan) -> Iterator[tuple[str, str, str]]:
    found = plan.predicted
    if found is None:
        yield "time and memory", "not known", "plan the dataset on this machine to have them measured"
        return
    how = "measured" if found.measured else "estimated from a smaller patch and batch"
    changed = [key for key in plan.changed_by_hand if key.partition(".")[0] in ("patch_size", "batch_size", "model")]
    if changed:
        how = f"of the plan before {', '.join(changed)} was changed by hand"
    yield "a step", f"{found.step_seconds:.3g} s", f"{how} on {found.device}"
    yield "training", format_time(found.training_seconds), "with loading and validation"
    limit = f"at most; {format_bytes(found.memory_limit_bytes)} may be taken"
    limit += f", by each of {found.processes} processes" if found.processes > 1 else ""
    yield "memory of training", format_bytes(found.memory_bytes), limit
    yield (
        "memory of prediction",
        format_bytes(found.inference_memory_bytes),
        "one window; the image's own maps come on top",
    )


def _spread(spread: Spread) -> str:
    return " / ".join(f"{value:.4g}" for value in (spread.low, spread.median, spread.high))


def _sizes(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def _compact(value: Any) -> str:
    """Format a value of a configuration: lists with one number per axis as 2×2×1."""
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        return ", ".join("×".join(map(str, row)) for row in value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
