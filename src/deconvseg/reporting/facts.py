"""A run's plan, training and origin as rows of readable text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.runs import name_precision, read_precision
from deconvseg.text import number_of
from deconvseg.units import format_time

_SCALAR_PLAN = {
    "dataset": "Dataset",
    "spatial_dims": "Spatial dimensions",
    "spacing": "Spacing",
    "patch_size": "Patch size",
    "batch_size": "Patches per step",
}
_RECIPE = {
    "epochs": "Epochs",
    "steps_per_epoch": "Steps per epoch",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "weights": "Evaluated weights",
    "precision": "Precision of training",
}


# Entries of a manifest other than versions and machine.
_NO_ORIGIN = ("command", "states")


def describe_training(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a summary of the rows of metrics."""
    if not rows:
        return {}
    last = rows[-1]
    facts = {"Epochs": str(len(rows))}
    if last.get("step") is not None:
        facts["Optimiser steps"] = str(last["step"])
    if last.get("seconds") is not None:
        facts["Training time"] = format_duration(float(last["seconds"]))
    scored = [row for row in rows if row.get("val_dice") is not None]
    if scored:
        best = max(scored, key=lambda row: row["val_dice"])
        facts["Best Dice"] = f"{best['val_dice']:.3f} (epoch {best['epoch'] + 1}{describe_sample(best, ', ')})"
        if best.get("val_with_truth") is not None:
            facts["with truth"] = f"{best['val_with_truth']:.3f}"
    return facts


def describe_precision(folder: Path) -> dict[str, str]:
    """Return the precision of later predictions that was measured for a run; nothing if none was."""
    try:
        measured = read_precision(folder)
    except InputError as error:
        return {"Precision of predictions": str(error)}
    if measured is None:
        return {}
    return {"Precision of predictions": f"{name_precision(measured.choice)}: {measured.why}"}


def describe_sample(row: Mapping[str, Any], before: str = "") -> str:
    """Return the number of validation cases behind an epoch's Dice; "" if it is all of them or not recorded."""
    cases, every = row.get("val_cases"), row.get("val_cases_of")
    return f"{before}{cases} of {every} cases" if cases and every and cases < every else ""


def describe_gain(name: str, dice: tuple[float, float], with_truth: tuple[float, float] | None) -> str:
    """Return how post-processing changes a structure's mean Dice, over all cases and over cases with truth."""
    text = f"{name} {dice[0]:.4f} → {dice[1]:.4f}"
    return text if with_truth is None else f"{text} (with truth {with_truth[0]:.4f} → {with_truth[1]:.4f})"


def describe_plan(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows of (choice, value, reason)."""
    reasons = plan.get("reasons") or {}
    rows = [
        (title, format_value(plan[key], " × "), reasons.get(key, ""))
        for key, title in _SCALAR_PLAN.items()
        if key in plan
    ]
    for channel in plan.get("channels") or ():
        name = channel.get("name", "")
        rows.append(
            (f"Channel {name}", f"normalised by {channel.get('normalisation')}", reasons.get(f"channel {name}", ""))
        )
    if labels := plan.get("labels"):
        pairs = zip(labels.get("values", ()), labels.get("names", ()), strict=False)
        classes = ", ".join(f"{value} {name}" for value, name in pairs)
        union = " (every label > 0)" if labels.get("foreground_only") else ""
        rows.append(("Classes", classes + union, reasons.get("labels", "")))
    for region in plan.get("regions") or ():
        rows.append(
            (
                f"Region {region.get('name')}",
                f"classes {format_value(region.get('labels'))}",
                reasons.get("regions", ""),
            )
        )
    if model := plan.get("model"):
        rows.append(("Network", str(model.get("name")), reasons.get("model", "")))
    if recipe := plan.get("recipe"):
        rows.append(("Recipe", str(recipe.get("name")), reasons.get("recipe", "")))
        rows += [
            (title, format_value(recipe[key]), reasons.get(f"recipe.{key}", ""))
            for key, title in _RECIPE.items()
            if key in recipe
        ]
    return rows


def describe_origin(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return versions, machine and commit as rows of (name, value), without the command and the hashes."""
    return [
        (name.removeprefix("packages.").replace(".", " ").replace("_", " "), value)
        for name, value in flatten(tell_extensions({k: v for k, v in manifest.items() if k not in _NO_ORIGIN}))
        if not is_hash(value) or name == "git_commit"
    ]


def tell_extensions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the extensions of the training told in words, such as "to 55 s after epoch 2"."""
    entries = manifest.get("extended")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        return dict(manifest)
    return {**manifest, "extended": ", then ".join(map(_tell_extension, entries))}


def _tell_extension(entry: Mapping[str, Any]) -> str:
    epochs, seconds = entry.get("epochs"), entry.get("seconds")
    ends = ["" if epochs is None else number_of(epochs, "epoch"), "" if seconds is None else format_time(seconds)]
    return f"to {' or '.join(filter(None, ends))} after epoch {entry.get('after_epochs')}"


def is_hash(text: str) -> bool:
    """Whether a text is a SHA-256 or a commit in hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", text) is not None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value of a nested mapping as (dotted path, text)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", format_value(value)


def format_value(value: Any, separator: str = ", ") -> str:
    """Return a JSON value as readable text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return separator.join(format_value(entry) for entry in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(entry)}" for key, entry in value.items())
    return str(value)


def format_duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
