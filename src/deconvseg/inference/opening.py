"""The models of a prediction: runs from folders, their common post-processing, the state of their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

from deconvseg.errors import InputError
from deconvseg.evaluation import read_operating_points
from deconvseg.inference.exports import Exported, is_export, open_export
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Model
from deconvseg.inference.records import Prediction
from deconvseg.inference.telling import describe_weights
from deconvseg.planning import Plan
from deconvseg.runs import (
    ChosenThreshold,
    Precision,
    Run,
    Threshold,
    WeightsChoice,
    format_threshold,
    locate,
    open_runs,
    read_threshold,
    weights_of,
)

Folder: TypeAlias = str | PathLike[str]
Given: TypeAlias = Folder | Model | Exported


def locate_models(models: Folder | Sequence[Folder | Model]) -> list[Folder | Model]:
    """Return one or several models, those that are given by a name or as a packed file by their folders."""
    given = [models] if isinstance(models, str | PathLike) else models
    return [locate(model) if isinstance(model, str | PathLike) else model for model in given]


def open_exports(models: Sequence[Folder | Model], precision: Precision | Literal["auto"] = "32") -> list[Given]:
    """Return the models, with each folder of an export opened, for a precision that was asked for."""
    asked: Precision = "bf16" if precision == "bf16" else "32"
    return [
        open_export(model, precision=asked) if isinstance(model, str | PathLike) and is_export(model) else model
        for model in models
    ]


def open_models(models: Sequence[Given]) -> list[Model]:
    """Return the models, with each folder (a run or a cross-validation) replaced by its runs."""
    opened: list[Model] = []
    for model in models:
        if isinstance(model, Exported):
            opened.append((model.engine, model.plan))
        else:
            opened += open_runs(model) if isinstance(model, str | PathLike) else [model]
    return opened


def plan_and_runs(models: Sequence[Folder | Model]) -> tuple[Plan, tuple[Run, ...]]:
    """Return the plan by which the cases of a prediction are chosen, that of the first model, and the runs.

    Example:
        >>> from deconvseg.inference import plan_and_runs
        >>> plan, runs = plan_and_runs(["RUN"])
        >>> plan.dataset, len(runs)
        ('discs', 1)

    """
    opened = open_models(open_exports(locate_models(models)))
    first = opened[0]
    plan = first.plan if isinstance(first, Run) else first[1]
    return plan, tuple(model for model in opened if isinstance(model, Run))


@dataclass(frozen=True)
class Decided:
    """The threshold, the post-processing or the precision of a prediction, lines about its origin, and warnings."""

    threshold: Threshold | None = None
    postprocessing: Postprocessing | None = None
    precision: Precision = "32"
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def decide_postprocessing(models: Sequence[Given], weights: WeightsChoice | None = None) -> Decided:
    """Return the common post-processing of the folders and exports; different ones are refused.

    There is none, with a warning, if it was chosen for other ``weights``; one that was chosen before the weights were
    replaced is applied with a warning.
    """
    folders = _folders_of(models)
    found = [_steps_of(model) for model in models]
    if any(other.steps != found[0].steps for other in found):
        raise InputError(
            f"{_names_of(models)}: their post-processing differs, and none was chosen for their mean; "
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
    models: Sequence[Given],
    weights: WeightsChoice | None = None,
) -> Decided:
    """Return the requested threshold, or the one chosen for the folders and exports, which must be the same for all.

    A threshold that was chosen for other ``weights`` is not applied, with a warning.
    """
    folders = _folders_of(models)
    found = [_threshold_of(model) for model in models]
    chosen = next((entry for entry in found if entry is not None), None)
    if asked == "default":
        return Decided(
            lines=()
            if chosen is None
            else (f"the default rule, not the {_describe(chosen)} of {_names_of(models[:1])}",)
        )
    if asked is not None:
        instead = "" if chosen is None else f", not the chosen {format_threshold(chosen.threshold)}"
        return Decided(asked, lines=(f"threshold {format_threshold(asked)}{instead}",))
    if chosen is None:
        return Decided()
    if any(entry is None or entry.threshold != chosen.threshold for entry in found):
        raise InputError(
            f"{_names_of(models)}: their chosen thresholds differ, and none was chosen for their mean; give "
            "`threshold`, a number or 'default'"
        )
    recorded = [entry.weights for entry in found if entry is not None]
    if foreign := _chosen_for_others(_describe(chosen), folders, recorded, weights):
        return Decided(warnings=(foreign,))
    warnings = _chosen_before("threshold", folders, recorded, weights)
    return Decided(chosen.threshold, lines=(f"{_describe(chosen)} of {_names_of(models[:1])}",), warnings=warnings)


def _steps_of(model: Given) -> Postprocessing:
    if isinstance(model, Exported):
        return model.postprocessing
    (folder,) = _folders_of([model])
    return Postprocessing() if folder is None else read_postprocessing(folder)


def _threshold_of(model: Given) -> ChosenThreshold | None:
    if isinstance(model, Exported):
        return None if model.threshold is None else ChosenThreshold(threshold=_plain(model.threshold), how="exported")
    (folder,) = _folders_of([model])
    return None if folder is None else read_threshold(folder)


def _plain(threshold: Threshold) -> float | dict[str, float]:
    return dict(threshold) if isinstance(threshold, Mapping) else threshold


def _names_of(models: Sequence[Given]) -> str:
    exports = [str(model.path) if isinstance(model, Exported) else None for model in models]
    return ", ".join(str(own or folder) for own, folder in zip(exports, _folders_of(models), strict=True))


def _folders_of(models: Sequence[Given]) -> list[Path | None]:
    """Return the folder of each run; None for an export, a network or an engine."""
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

    None if these were predicted with other ``weights``, and for an export.
    """
    if any(is_export(model) for model in models):
        return None
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
