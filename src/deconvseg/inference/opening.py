"""The models of a prediction: runs from folders, their common post-processing, the state of their training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias

from deconvseg.errors import InputError
from deconvseg.evaluation import read_operating_points
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Model
from deconvseg.inference.records import Prediction
from deconvseg.inference.telling import describe_weights
from deconvseg.runs import ChosenThreshold, Run, Threshold, format_threshold, open_runs, read_threshold, weights_of

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


@dataclass(frozen=True)
class Decided:
    """The threshold of a prediction, a description of its origin, and warnings."""

    threshold: Threshold | None = None
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def decide_threshold(asked: Threshold | Literal["default"] | None, models: Sequence[Folder | Model]) -> Decided:
    """Return the requested threshold, or else the one chosen for the folders, which must be the same for all."""
    folders = [model.path if isinstance(model, Run) else model for model in models]
    found = [read_threshold(folder) if isinstance(folder, str | PathLike) else None for folder in folders]
    chosen = next((entry for entry in found if entry is not None), None)
    if asked == "default":
        return Decided(
            lines=() if chosen is None else (f"the default rule, not the {_describe(chosen)} of {folders[0]}",)
        )
    if asked is not None:
        instead = "" if chosen is None else f", not the chosen {format_threshold(chosen.threshold)}"
        return Decided(asked, (f"threshold {format_threshold(asked)}{instead}",))
    if chosen is None:
        return Decided()
    if any(entry is None or entry.threshold != chosen.threshold for entry in found):
        raise InputError(
            f"{', '.join(map(str, folders))}: their chosen thresholds differ, and none was chosen for their mean; give "
            "`threshold`, a number or 'default'"
        )
    warnings = [
        f"{folder}: its threshold was chosen for other weights than it has now; choose it again"
        for folder, entry in zip(folders, found, strict=True)
        if entry is not None and isinstance(folder, str | PathLike) and entry.weights != weights_of(folder)
    ]
    return Decided(chosen.threshold, (f"{_describe(chosen)} of {folders[0]}",), tuple(warnings))


def _describe(chosen: ChosenThreshold) -> str:
    return f"threshold {format_threshold(chosen.threshold)} ({chosen.how})"


def doubt_limit(models: Sequence[Folder | Model]) -> float | None:
    """Return the 95th percentile of the doubt of the validation cases of the only run or cross-validation."""
    folders = [model.path if isinstance(model, Run) else model for model in models]
    if len(folders) != 1 or not isinstance(folders[0], str | PathLike):
        return None
    points = read_operating_points(folders[0])
    return None if points is None else points.doubt_limit


def describe_runs(runs: Sequence[Run]) -> Prediction:
    """Describe the weights of each run and the progress of its training; warn about unfinished trainings."""
    told = Prediction()
    for run in runs:
        weights = describe_weights(run)
        epochs, planned = weights["epochs"], run.config.get("epochs") or run.plan.recipe.epochs
        told.models.append({**weights, "finished": run.finished, "planned_epochs": planned})
        if not run.finished:
            told.warn(
                f"{run.path}: its training did not finish ({epochs} of {planned} epochs), so its masks are not those "
                "of the finished network; resume it first"
            )
    return told
