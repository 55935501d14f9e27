"""Choose the threshold of a run or a cross-validation and store it in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.evaluation.operating import OPERATING_POINTS, OperatingPoints, read_operating_points
from deconvseg.evaluation.operating_choice import choose_thresholds
from deconvseg.options import ThresholdOptions, takes
from deconvseg.runs import THRESHOLD, ChosenThreshold, Run, Threshold, check_threshold, weights_of
from deconvseg.system import hold

# Most seconds to wait while a report of the run records its page.
_PATIENCE = 10.0


@takes(ThresholdOptions)
def choose_threshold(asked: ThresholdOptions) -> ChosenThreshold:
    """Choose the threshold that ``predict`` uses for a run or a cross-validation, and write it into its folder.

    Give exactly one of these: ``value``, one number or numbers by class; ``best`` "dice", the threshold with the
    highest mean Dice over the cases; ``sensitivity``, the largest threshold at which this share of the true voxels of
    all cases together is predicted; ``lesion_sensitivity``, the largest threshold at which this share of the true
    lesions is found. The last three use the folder's operating points, separately for each class, or only for
    ``classes``. They are chosen on validation cases, so the scores of these cases at the threshold are optimistic.

    Raises :class:`~deconvseg.errors.InputError` if none or several of them are given, the run has no operating points,
    or no threshold reaches the requested sensitivity.

    Example:
        >>> import shutil
        >>> from deconvseg.evaluation.threshold import choose_threshold
        >>> copy = shutil.copytree("RUN", "copy")
        >>> choose_threshold(copy, best="dice").how
        'best Dice of 2 validation cases'

    """
    run = Run.open(asked.run)
    given = [asked.value, asked.best, asked.sensitivity, asked.lesion_sensitivity]
    if len(given) - given.count(None) != 1:
        raise InputError(
            "a threshold is chosen by one of `value`, `best`, `sensitivity` and `lesion_sensitivity`: give one"
        )
    if asked.value is not None:
        if asked.classes is not None:
            raise InputError("`classes`: `value` names its classes itself; omit `classes`")
        threshold: Threshold = check_threshold(asked.value, run.plan.output_names, "value")
        how = "set by hand"
    else:
        threshold, how = _choose(run, asked)
    chosen = ChosenThreshold(
        threshold=dict(threshold) if isinstance(threshold, Mapping) else threshold,
        how=how,
        weights=weights_of(run.path),
    )
    with hold(run.path, patience=_PATIENCE):
        chosen.write(run.path)
        if run.finished:
            run.record_hash(THRESHOLD)
    return chosen


def reset_threshold(folder: str | PathLike[str]) -> bool:
    """Remove the chosen threshold; return whether there was one."""
    run = Run.open(folder)
    with hold(run.path, patience=_PATIENCE):
        file = run.path / THRESHOLD
        if not file.exists():
            return False
        file.unlink()
        files = run.manifest.get("files", {})
        run.update_manifest(files={name: digest for name, digest in files.items() if name != THRESHOLD})
    return True


def needed_operating_points(folder: Path) -> OperatingPoints:
    """Return the operating points of a folder; :class:`InputError` if it has none."""
    points = read_operating_points(folder)
    if points is None:
        raise InputError(
            f"{folder}: has no {OPERATING_POINTS}: it has no validation cases, is not finished, or is of an earlier "
            "version; a number can still be chosen as `value`"
        )
    return points


def _choose(run: Run, asked: ThresholdOptions) -> tuple[Threshold, str]:
    """Return the threshold chosen by the operating points, and a description of the choice."""
    points = needed_operating_points(run.path)
    names = list(asked.classes or run.plan.output_names)
    if asked.best is not None:
        found, how = choose_thresholds(points, names, "dice"), "best Dice"
    elif asked.sensitivity is not None:
        found = choose_thresholds(points, names, "sensitivity", asked.sensitivity)
        how = f"sensitivity {asked.sensitivity:g}"
    else:
        found = choose_thresholds(points, names, "lesion_sensitivity", asked.lesion_sensitivity or 0.0)
        how = f"lesion sensitivity {asked.lesion_sensitivity:g}"
    where = "validation cases" if points.source == "validation" else "out-of-fold cases"
    threshold: Threshold = next(iter(found.values())) if len(run.plan.output_names) == 1 else found
    return threshold, f"{how} of {points.cases} {where}"
