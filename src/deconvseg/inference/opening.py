"""The models of a prediction: runs from folders, their common post-processing, the state of their training."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypeAlias

from deconvseg.errors import InputError
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Model
from deconvseg.inference.records import Prediction
from deconvseg.runs import Run, open_runs

Folder: TypeAlias = str | PathLike[str]


def open_models(models: Sequence[Folder | Model]) -> list[Model]:
    """Return the models, with each folder (a run or a cross-validation) replaced by its runs."""
    opened: list[Model] = []
    for model in models:
        opened += open_runs(model) if isinstance(model, str | PathLike) else [model]
    return opened


def common_postprocessing(models: Sequence[Folder | Model]) -> Postprocessing:
    """Return the common post-processing of the folders; different ones are refused."""
    folders = [model.path if isinstance(model, Run) else model for model in models]
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
    told = Prediction()
    for run in runs:
        epochs, planned = len(run.metrics), run.config.get("epochs") or run.plan.recipe.epochs
        told.models.append(
            {
                "run": str(run.path),
                "weights": "weights.safetensors",
                "finished": run.finished,
                "epochs": epochs,
                "planned_epochs": planned,
            }
        )
        if not run.finished:
            told.warn(
                f"{run.path}: its training did not finish ({epochs} of {planned} epochs), so its masks are not those "
                "of the trained network; resume it first"
            )
    return told
