"""Evaluate folders of masks: match and read cases, and report every case that cannot be evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deconvseg.data import Problem, RegionFiles, read_mask_pair
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation.cautions import caution, caution_of_dataset, caution_of_region_files
from deconvseg.evaluation.classes import Classes, choose_classes
from deconvseg.evaluation.evaluation import CaseMetrics, Evaluation
from deconvseg.evaluation.masks import find_labels, measure_masks
from deconvseg.evaluation.matching import Truths, choose_cases, find_predictions, find_truths
from deconvseg.evaluation.measuring import Measuring
from deconvseg.evaluation.origin import caution_of_prediction, caution_of_seen, find_origin, find_runs
from deconvseg.evaluation.plan_grid import PlanGrid, ScoredMasks, choose_grid
from deconvseg.evaluation.storage import align_masks, unite_cases
from deconvseg.options import EvaluateOptions, takes
from deconvseg.planning import Plan
from deconvseg.progress import choose_console, each, takes_console
from deconvseg.runs import Run, locate, name_seen, patterns_of_run
from deconvseg.system import make_folder


@dataclass(frozen=True)
class _Choice:
    """The scored classes, the unit, the metrics, and the grid of a plan if it is scored on one."""

    classes: Classes
    unit: str
    measuring: Measuring
    grid: PlanGrid | None = None
    region_files: bool = False


@takes_console
@takes(EvaluateOptions)
def evaluate(asked: EvaluateOptions) -> Evaluation:
    """Compare predicted masks with true ones, case by case and class by class: Dice, HD95, NSD, volumes.

    Masks are matched by case name. The scored classes are the values of ``labels``, or those that the plan of ``run``
    predicts, else the regions (unions of labels) or labels that the dataset declares, else all occurring labels. Voxels
    with the ignore label, of the dataset or else of the plan of ``run``, are excluded. With ``unit`` "voxel",
    distances, volumes and ``tolerance`` are in voxels. With ``grid`` "plan", both masks are resampled to the grid of
    ``plan``, or of the plan of ``run``, as the labels of a training are, and scored there. ``metrics`` are names of
    :func:`list_metrics`, as "dice,hd95" or a sequence; Dice is always included. ``empty`` "drop" excludes values for
    which MONAI gives NaN. ``lesion_overlap`` and ``lesion_sizes`` are those of
    :class:`~deconvseg.evaluation.lesions.LesionRule`.

    Regions are scored from their own files if ``predict`` wrote them next to the masks (``save_regions``), and
    otherwise as they are painted in the masks.

    Missing predictions, unreadable files and different geometries are listed in ``Evaluation.problems``, predictions
    without a true mask in ``unmatched``; the other cases are evaluated. ``warnings`` lists reasons why scores are less
    meaningful than they look, such as masks compared with themselves. Raises :class:`InputError` if no case can be
    evaluated.

    Example:
        >>> import deconvseg
        >>> scores = deconvseg.evaluate("TRUTH", "MASKS", "metrics.json", metrics="dice,hd95")
        >>> len(scores.cases), scores.mean_dice > 0.8
        (8, True)

    """
    measuring = Measuring.choose(
        asked.metrics,
        empty=asked.empty,
        tolerance=asked.tolerance,
        lesion_overlap=asked.lesion_overlap,
        lesion_sizes=asked.lesion_sizes,
    )
    if asked.run is not None:
        asked = replace(asked, run=locate(asked.run))
    truth, prediction, run = Path(asked.truth), Path(asked.prediction), asked.run
    plan = None if run is None else Run.open(run).plan
    makers = find_runs(prediction, run)
    truths = _find_truths(asked, plan, makers)
    predictions = find_predictions(prediction, truths)
    grid = choose_grid(asked.grid, asked.plan, plan)
    names = choose_cases(truths, predictions, asked.splits, asked.split, asked.fold)
    target = None if asked.output is None else _prepare_output(Path(asked.output))
    classes = _classes(asked, plan, truths)
    files_of_regions = _have_region_files(names, predictions)
    choice = _Choice(classes, asked.unit, measuring, grid, files_of_regions and classes.by_region)
    if grid is not None:
        grid.check(next(truths.files[name][0] for name in names if name in truths.files))
    found = _evaluate_cases(each(names, "evaluating", choose_console(asked.console), str), truths, predictions, choice)
    left_out = () if asked.split else truths.left_out
    # A split or a single file selects some of the predictions, so the others are not reported as unmatched.
    chosen = asked.split is not None or truth.is_file()
    unmatched = [] if chosen else _unmatched(predictions, truths, left_out)
    unasked = asked.labels is None and plan is None and not asked.foreground
    # The training cases of a run are no test of it, unless they were asked for.
    seen = [] if asked.split == "train" else name_seen([case.name for case in found.cases], makers)
    evaluation = replace(
        found,
        split=asked.split,
        unmatched=tuple(unmatched),
        warnings=(
            *([caution_of_seen(seen, len(found.cases))] if seen else []),
            *caution(found.cases, classes.values, unmatched, measuring.empty),
            *caution_of_dataset(truth, ignore=truths.ignore is None, regions=unasked),
            *caution_of_region_files(files_of_regions and unasked and not classes.by_region, prediction),
            *caution_of_prediction([case.prediction_file for case in found.cases], prediction),
        ),
        problems=(*found.problems, *(f"{problem.file} {problem.message}" for problem in left_out)),
        origin={**find_origin(truth, prediction, run), **({"trained_on": seen} if seen else {})},
    )
    if target is not None:
        evaluation.write(target, shared=run is not None and target.absolute().is_relative_to(Path(run).absolute()))
    return evaluation


def _classes(asked: EvaluateOptions, plan: Plan | None, truths: Truths) -> Classes:
    """Return the classes to score, by the options, the plan or the dataset."""
    return choose_classes(
        labels=asked.labels if isinstance(asked.labels, Mapping) else None,
        foreground=asked.foreground or (truths.foreground and plan is None and asked.labels is None),
        foreground_name=truths.foreground_name,
        plan=plan,
        declared=truths.labels,
        regions=truths.regions,
        ignore=truths.ignore,
        merged=truths.merged,
    )


def _have_region_files(names: Sequence[str], predictions: Mapping[str, Sequence[Path]]) -> bool:
    """Whether any of the predicted masks has files of its regions, from which regions are then scored."""
    return any(RegionFiles(mask, {}).present for name in names for mask in predictions.get(name, ()))


def _find_truths(asked: EvaluateOptions, plan: Plan | None, makers: Sequence[Run]) -> Truths:
    """Find the true masks; if they declare no ignore label, that of the plan is used.

    Without options for reading, the truth is read like the dataset of the given run, or of the run that made the
    predictions, if its files have matching names.
    """
    truth = Path(asked.truth)
    labels = None if isinstance(asked.labels, Mapping) else asked.labels
    reading = {"image": asked.image, "mask": asked.mask, "labels": labels, "exclude": asked.exclude}
    if asked.run is not None and asked.image is None and asked.mask is None:
        given = {name: value for name, value in reading.items() if value is not None}
        reading = {**patterns_of_run(Run.open(asked.run), truth), **given}
    elif makers and asked.image is None and asked.mask is None:
        found = patterns_of_run(makers[0], truth)
        if "image" in found:
            choose_console(asked.console).say(
                f"{truth}: its masks are found by the pattern of the run that made the predictions, "
                f"{', '.join(found['mask'])}"
            )
            given = {name: value for name, value in reading.items() if value is not None}
            reading = {**found, **given}
    truths = find_truths(truth, reading)
    ignore = plan.labels.ignore if plan is not None and truths.ignore is None else truths.ignore
    return replace(truths, ignore=ignore, images=truths.images if asked.images is None else asked.images)


def _unmatched(predictions: Mapping[str, Sequence[Path]], truths: Truths, left_out: Sequence[Problem]) -> list[str]:
    """Return the names of predictions without a true mask, except those already reported as left out."""
    told = {problem.case for problem in left_out} | set(truths.excluded)
    return sorted(predictions.keys() - truths.files.keys() - told)


def _evaluate_cases(
    names: Iterable[str], truths: Truths, predictions: Mapping[str, Sequence[Path]], choice: _Choice
) -> Evaluation:
    cases: list[CaseMetrics] = []
    missing: list[str] = []
    problems: list[str] = []
    for name in names:
        if name not in predictions:
            missing.append(name)
            problems.append(f"{name}: no prediction has this name")
            continue
        if name not in truths.files:
            problems.append(f"{name}: has no true mask")
            continue
        try:
            cases.append(_evaluate_case(name, truths, predictions[name], choice))
        except DeconvsegError as error:
            problems.append(f"{name}: {error}")
    cases = unite_cases(cases, choice.classes)
    labels = _all_labels(cases, choice)
    return Evaluation(
        cases=tuple(_fill_in(case, labels, choice.measuring) for case in cases),
        labels=labels,
        unit=_unit(choice.unit, cases),
        grid="image" if choice.grid is None else "plan",
        plan_grid={} if choice.grid is None else choice.grid.to_json(),
        tolerance=choice.measuring.tolerance,
        metrics=choice.measuring.infos,
        empty=choice.measuring.empty,
        lesions=choice.measuring.lesions,
        foreground=choice.classes.foreground,
        regions=choice.classes.members,
        region_files=choice.region_files,
        ignore_label=truths.ignore,
        missing=tuple(missing),
        problems=tuple(problems),
    )


def _prepare_output(output: Path) -> Path:
    """Return the file to write; a folder that cannot be created raises an error before the evaluation."""
    target = output if output.suffix == ".json" and not output.is_dir() else output / "metrics.json"
    make_folder(target.parent)
    return target


def _evaluate_case(name: str, truths: Truths, found: Sequence[Path], choice: _Choice) -> CaseMetrics:
    for files, role in ((truths.files[name], "truths"), (found, "predictions")):
        if len(files) > 1:
            raise InputError(f"{len(files)} {role} have this name ({', '.join(map(str, files))}); keep one")
    truth_file, prediction_file = truths.files[name][0], found[0]
    source = truths.sources.get(name)
    truth, prediction = read_mask_pair(source or truth_file, prediction_file, foreground=choice.classes.foreground)
    ignored = None if truths.ignore is None else truth.pixels == truths.ignore
    stored = truth.pixels, prediction.pixels
    masks = align_masks(truth, prediction, choice.classes, truths.ignore)
    aligned = any(one is not other for one, other in zip(masks, stored, strict=True))
    if choice.classes.foreground:
        masks = masks[0] > 0, masks[1] > 0
    separate = RegionFiles(prediction_file, choice.classes.names).read(prediction) if choice.region_files else {}
    scored = ScoredMasks(*masks, ignored, truth.geometry.spacing, separate)
    if choice.grid is not None:
        scored = choice.grid.of_case(truth, truth_file, truths.images.get(name, ())).resample(scored)
    predicted = find_labels(scored.prediction, scored.ignored)
    labels = dict(choice.classes.names)
    if choice.classes.extend:
        values = find_labels(scored.truth, scored.ignored) | predicted
        labels.update({value: f"label {value}" for value in sorted(values - labels.keys())})
    metrics = measure_masks(
        scored.truth,
        scored.prediction,
        labels,
        choice.measuring,
        members=choice.classes.members,
        spacing=(1.0,) * scored.truth.ndim if choice.unit == "voxel" else scored.spacing,
        ignored=scored.ignored,
        separate=scored.separate,
    )
    return CaseMetrics(
        name,
        scored.truth.shape,
        scored.spacing,
        metrics,
        truth_file,
        prediction_file,
        tuple(truths.images.get(name, ())),
        tuple(sorted(predicted)),
        0 if scored.ignored is None else int(np.count_nonzero(scored.ignored)),
        aligned,
        truth_source=source,
    )


def _all_labels(cases: Sequence[CaseMetrics], choice: _Choice) -> dict[int, str]:
    """Return the declared labels and those of the true masks; labels only in predictions if there are no others."""
    if not choice.classes.extend:
        return dict(choice.classes.names)
    rows = [(value, row) for case in cases for value, row in case.metrics.items()]
    names = dict(choice.classes.names) | {value: str(row["name"]) for value, row in rows if row["n_truth"]}
    names = names or {value: str(row["name"]) for value, row in rows}
    if cases and not names:
        raise InputError("every mask is empty and nothing names the labels; give them, or evaluate the foreground")
    return dict(sorted(names.items()))


def _fill_in(case: CaseMetrics, labels: Mapping[int, str], measuring: Measuring) -> CaseMetrics:
    """Add the classes that occur only in other cases: in this case both masks are empty for them."""
    nothing = measuring.empty_pair(math.prod(case.shape) - case.ignored_voxels)
    rows = {value: case.metrics.get(value) or measuring.measure(nothing, name) for value, name in labels.items()}
    return replace(case, metrics=rows)


def _unit(unit: str, cases: Sequence[CaseMetrics]) -> str:
    # 2D files without a pixel size have unit spacing, so their distances are in pixels.
    flat = bool(cases) and all(len(case.shape) == 2 and set(case.spacing) == {1.0} for case in cases)
    return "voxel" if flat else unit
