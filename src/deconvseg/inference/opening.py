"""The models of a prediction: runs from folders, their common post-processing, the state of their training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

from deconvseg.errors import InputError
from deconvseg.evaluation import read_operating_points
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Model
from deconvseg.inference.records import Prediction
from deconvseg.inference.telling import describe_weights
from deconvseg.runs import (
    ChosenThreshold,
    Precision,
    Run,
    Threshold,
    WeightsChoice,
    format_threshold,
    open_runs,
    read_threshold,
    weights_of,
)

Folder: TypeAlias = str | PathLike[str]


def open_models(models: Sequence[Folder | Model]) -> list[Model]:
    """Return the models, with each folder (a run or a cross-validation) replaced by its runs."""
    opened: list[Model] = []
    for model in models:
        opened += open_runs(model) if isinstance(model, str | PathLike) else [model]
    return opened


@dataclass(frozen=True)
class Decided:
    """The threshold, the post-processing or the precision of a prediction, lines about its origin, and warnings."""

    threshold: Threshold | None = None
    postprocessing: Postprocessing | None = None
    precision: Precision = "32"
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def decide_postprocessing(models: Sequence[Folder | Model], weights: WeightsChoice | None = None) -> Decided:
    """Return the common post-processing of the folders; different ones are refused.

    There is none, with a warning, if it was chosen for other ``weights``; one that was chosen before the weights were
    replaced is applied with a warning.
    """
    folders = _folders_of(models)
    found = [Postprocessing() if folder is None else read_postprocessing(folder) for folder in folders]
    if any(other.steps != found[0].steps for other in found):
        raise InputError(
            f"{', '.join(map(str, folders))}: their post-processing differs, and none was chosen for their mean; "
            "predict with `postprocess=False`"
        )
    if not found[0].steps:
        return Decided(postprocessing=found[0])
    what, recorded = "post-processing", [entry.weights for entry in found]
    if foreign := _chosen_for_others(what, folders, recorded, weights):
        return Decided(warnings=(foreign,))
    return Decided(postprocessing=found[0], warnings=_chosen_before(what, folders, recorded, weights))


def decide_threshold(
    asked: Threshold | Literal["default"] | None,
    models: Sequence[Folder | Model],
    weights: WeightsChoice | None = None,
) -> Decided:
    """Return the requested threshold, or the one chosen for the folders, which must be the same for all.

    A threshold that was chosen for other ``weights`` is not applied, with a warning.
    """
    folders = _folders_of(models)
    found = [None if folder is None else read_threshold(folder) for folder in folders]
    chosen = next((entry for entry in found if entry is not None), None)
    if asked == "default":
        return Decided(
            lines=() if chosen is None else (f"the default rule, not the {_describe(chosen)} of {folders[0]}",)
        )
    if asked is not None:
        instead = "" if chosen is None else f", not the chosen {format_threshold(chosen.threshold)}"
        return Decided(asked, lines=(f"threshold {format_threshold(asked)}{instead}",))
    if chosen is None:
        return Decided()
    if any(entry is None or entry.threshold != chosen.threshold for entry in found):
        raise InputError(
            f"{', '.join(map(str, folders))}: their chosen thresholds differ, and none was chosen for their mean; give "
            "`threshold`, a number or 'default'"
        )
    recorded = [entry.weights for entry in found if entry is not None]
    if foreign := _chosen_for_others(_describe(chosen), folders, recorded, weights):
        return Decided(warnings=(foreign,))
    warnings = _chosen_before("threshold", folders, recorded, weights)
    return Decided(chosen.threshold, lines=(f"{_describe(chosen)} of {folders[0]}",), warnings=warnings)


def _folders_of(models: Sequence[Folder | Model]) -> list[Path | None]:
    """Return the folder of each model; None for a network or an engine."""
    folders = [model.path if isinstance(model, Run) else model for model in models]
    return [Path(folder) if isinstance(folder, str | PathLike) else None for folder in folders]


def _chosen_for_others(
    what: str, folders: Sequence[Path | None], recorded: Sequence[Sequence[str | None]], asked: WeightsChoice | None
) -> str | None:
    """Describe that something (``what``) was chosen for weights other than the requested ones; None if it was not.

    ``recorded`` are the SHA-256 of the weights of each folder's choice.
    """
    for folder, known in zip(folders, recorded, strict=True):
        own = None if folder is None or asked is None else Run.open(folder).plan.recipe.weights
        if folder is None or asked in (None, own) or (known and tuple(known) == weights_of(folder, asked)):
            continue
        return f"{folder}: its {what} was chosen for its {own} weights, and is not applied to the {asked} ones"
    return None


def _chosen_before(
    what: str, folders: Sequence[Path | None], recorded: Sequence[Sequence[str | None]], asked: WeightsChoice | None
) -> tuple[str, ...]:
    """Return a warning for each folder whose recorded weights are not those that it has now."""
    return tuple(
        f"{folder}: its {what} was chosen for other weights than it has now; choose it again"
        for folder, known in zip(folders, recorded, strict=True)
        if folder is not None and known and tuple(known) != weights_of(folder, asked)
    )


def _describe(chosen: ChosenThreshold) -> str:
    return f"threshold {format_threshold(chosen.threshold)} ({chosen.how})"


def doubt_limit(models: Sequence[Folder | Model], weights: WeightsChoice | None = None) -> float | None:
    """Return the 95th percentile of the doubt of the validation cases of the only run or cross-validation.

    None if these were predicted with other ``weights``.
    """
    folder, *others = _folders_of(models)
    if others or folder is None or weights not in (None, Run.open(folder).plan.recipe.weights):
        return None
    points = read_operating_points(folder)
    return None if points is None else points.doubt_limit


def describe_runs(runs: Sequence[Run], weights: WeightsChoice | None = None) -> Prediction:
    """Describe the ``weights`` of each run and the progress of its training; warn about unfinished trainings."""
    told = Prediction()
    for run in runs:
        used = describe_weights(run, run.choose_weights(weights))
        epochs, planned = used["epochs"], run.config.get("epochs") or run.plan.recipe.epochs
        told.models.append({**used, "finished": run.finished, "planned_epochs": planned})
        if not run.finished:
            told.warn(
                f"{run.path}: its training did not finish ({epochs} of {planned} epochs), so its masks are not those "
                "of the finished network; resume it first"
            )
    return told
