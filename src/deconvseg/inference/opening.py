"""The models of a prediction, and what there is to be said about them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, TypeAlias

from deconvseg.errors import InputError
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Model
from deconvseg.inference.records import Prediction
from deconvseg.runs import Run, open_runs

Folder: TypeAlias = str | PathLike[str]


def open_models(models: Folder | Sequence[Folder | Model]) -> list[Model]:
    """Return the models that are given, and the runs of the folders that are given, the folds of a cross-validation."""
    given = [models] if isinstance(models, str | PathLike) else models
    opened: list[Model] = []
    for model in given:
        opened += open_runs(model) if isinstance(model, str | PathLike) else [model]
    return opened


def common_postprocessing(models: Folder | Sequence[Folder | Model]) -> Postprocessing:
    """Return the post-processing that was chosen for the folders that are given, which must be the same."""
    given = [models] if isinstance(models, str | PathLike) else models
    folders = [model.path if isinstance(model, Run) else model for model in given]
    found = [
        read_postprocessing(folder) if isinstance(folder, str | PathLike) else Postprocessing() for folder in folders
    ]
    if any(other.steps != found[0].steps for other in found):
        raise InputError(
            f"{', '.join(map(str, folders))}: their post-processing differs, and none was chosen for their mean; "
            "predict with `postprocess=False`"
        )
    return found[0]


def describe_runs(runs: Sequence[Run]) -> Prediction:
    """Say which weights of each run are used and how far its training went; warn of those that did not finish."""
    told = Prediction(models=[_describe(run) for run in runs])
    for run in told.models:
        if not run["finished"]:
            told.warn(
                f"{run['run']}: its training did not finish ({run['epochs']} of {run['planned_epochs']} epochs), so "
                "its masks are not those of the trained network; resume it first"
            )
    return told


def _describe(run: Run) -> dict[str, Any]:
    """Return what is said of a run."""
    planned = run.config.get("epochs") or run.plan.recipe.epochs
    return {
        "run": str(run.path),
        "weights": "weights.safetensors",
        "finished": run.finished,
        "epochs": len(run.metrics),
        "planned_epochs": planned,
    }
