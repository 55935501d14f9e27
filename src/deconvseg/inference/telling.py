"""Descriptions of the weights and the computation of a prediction, for the screen and for records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvseg.data import list_names
from deconvseg.errors import InputError
from deconvseg.evaluation import read_evaluation
from deconvseg.inference.predictor import Predictor
from deconvseg.ops import explain
from deconvseg.runs import Run, WeightsChoice, describe_run, name_precision
from deconvseg.runs.weight_files import file_of
from deconvseg.text import number_of

# The reference of an operator of layers are PyTorch's layers.
_BACKENDS = {"reference": "PyTorch"}


def describe_weights(run: Run, which: WeightsChoice = "final") -> dict[str, Any]:
    """Describe the weights of a run: the file, the fold, the epoch, its validation Dice, and the best validation Dice.

    The Dice of the final weights is that of the last validation at or before their epoch. ``final_dice`` is the mean
    Dice of the validation masks of a finished run, None if they are missing or of other weights.
    """
    rows = run.metrics
    validated = [row for row in rows if row.get("val_dice") is not None]
    best = max(validated, key=lambda row: row["val_dice"], default=None)
    own = validated[-1] if validated and which == "final" else best
    return {
        "run": str(run.path),
        "weights": file_of(which),
        "which": "last" if which == "final" else "best",
        "sha256": describe_run(run, which)["weights_sha256"],
        "fold": run.config.get("fold"),
        "epochs": len(rows),
        "validation_dice": own["val_dice"] if own else None,
        "final_dice": _final_dice(run) if which == run.plan.recipe.weights else None,
        "best_epoch": None if best is None else best["epoch"],
        "best_validation_dice": None if best is None else best["val_dice"],
    }


def _final_dice(run: Run) -> float | None:
    metrics = run.validation / "metrics.json"
    # The metrics of an unfinished run may be those of earlier weights.
    if not run.finished or not metrics.is_file():
        return None
    try:
        found = read_evaluation(metrics)
    except InputError:
        # Prediction needs no metrics; the report states that the file is damaged.
        return None
    return found.mean_dice if found.cases and not math.isnan(found.mean_dice) else None


def tell_weights(models: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the weights of the runs in one line; None without a run."""
    models = [model for model in models if "run" in model]
    if not models:
        return None
    first = models[0]
    if len(models) == 1:
        fold = "" if first["fold"] is None else f", fold {first['fold']}"
        return f"weights: {first['run']}{fold}, {_epochs(first)}"
    folders = {Path(str(model["run"])).parent for model in models}
    where = str(folders.pop()) if len(folders) == 1 else None
    names = [Path(str(model["run"])).name if where else str(model["run"]) for model in models]
    epochs = "; ".join(f"{name} {_epochs(model)}" for name, model in zip(names[:3], models, strict=False))
    more = f"; and {len(models) - 3} more" if len(models) > 3 else ""
    return f"weights: the mean of {number_of(len(models), 'run')}{f' in {where}' if where else ''}: {epochs}{more}"


def describe_computing(predictor: Predictor) -> dict[str, Any]:
    """Return the device, the precision of the networks, the operators by backend (and bfloat16), and the mirroring."""
    kernels: dict[str, list[str]] = {}
    precisions: set[str] = set()
    for engine in predictor.engines:
        types = {str(one.dtype).removeprefix("torch.") for one in engine.network.parameters()}
        precisions |= types if engine.precision == "32" else {name_precision(engine.precision)}
        with engine.lowered():
            choices = explain(engine.network).choices
        for _, choice in choices:
            used = kernels.setdefault(choice.computed, [])
            if choice.operator not in used:
                used.append(choice.operator)
    titles = [str(getattr(other, "title", type(other).__name__)) for other in predictor.other_engines]
    precisions |= {name_precision(other.precision) for other in predictor.other_engines if hasattr(other, "precision")}
    return {
        "engines": [*(["PyTorch"] if predictor.engines else []), *dict.fromkeys(titles)],
        "device": str(predictor.device),
        "precision": sorted(precisions),
        "kernels": kernels,
        "mirrored_axes": [list(axes) for axes in predictor.mirrored_axes],
        "overlap": [float(overlap) for overlap in predictor.overlaps],
    }


def tell_computing(computing: Mapping[str, Any]) -> str:
    """Describe the computation of a prediction in one line."""
    kernels = ", ".join(
        f"{_BACKENDS.get(backend, backend)} ({list_names(names, 3)})" for backend, names in computing["kernels"].items()
    )
    axes = sorted({axis for mirrored in computing["mirrored_axes"] for axis in mirrored})
    engines = computing.get("engines", ["PyTorch"])
    others = [engine for engine in engines if engine != "PyTorch"]
    precision = ", ".join(computing["precision"])
    by = f"{precision} by {' and '.join(engines)}" if precision else f"by {' and '.join(engines)}"
    pytorch = [f"kernels: {kernels}" if kernels else "PyTorch's own kernels"] if "PyTorch" in engines else []
    parts = [
        f"{by if others else precision} on {computing['device']}",
        *pytorch,
        f"averaged over mirrorings of axes {', '.join(map(str, axes))}" if axes else "not mirrored",
    ]
    return f"computing: {'; '.join(parts)}"


def _epochs(model: Mapping[str, Any]) -> str:
    """Describe the training of the weights, and whether an earlier epoch was better."""
    if not model["epochs"] and model["which"] == "last":
        return "without a completed epoch"
    if model["which"] == "best":
        if model["best_epoch"] is None:
            return "the best (without a record of their validation)"
        of = f"epoch {model['best_epoch'] + 1} of {model['epochs']}"
        return f"the best, of {of} (validation Dice {model['validation_dice']:.3f})"
    text = f"the last of {model['epochs']} epochs"
    final, last = model["final_dice"], model["validation_dice"]
    dice = last if final is None else final
    if dice is None:
        return f"{text} (never validated)"
    text += f" (validation Dice {dice:.3f}"
    if last is not None and model["best_validation_dice"] > last:
        best = f"best {model['best_validation_dice']:.3f} at epoch {model['best_epoch'] + 1}"
        # A packaged run has one file of weights.
        kept = (Path(str(model["run"])) / file_of("best")).is_file()
        text += f"; {best}, in {file_of('best')}" if kept else f"; {best}"
    return f"{text})"
