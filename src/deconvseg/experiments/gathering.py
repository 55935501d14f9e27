"""The results of the folds of a cross-validation together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deconvseg.data import Dataset, Splits, list_names
from deconvseg.errors import DeconvsegError
from deconvseg.evaluation import (
    merge_evaluations,
    merge_operating_points,
    read_evaluation,
    read_operating_points,
)
from deconvseg.experiments.folds import describe_foreign, fold_run, is_finished
from deconvseg.experiments.holding_out import hold_out
from deconvseg.experiments.postprocessing import choose_postprocessing
from deconvseg.experiments.result import CrossValidation
from deconvseg.progress import Console
from deconvseg.runs import Run, describe_run


def gather(
    run: Run, data: Dataset, parts: Sequence[Splits], failed: Mapping[int, str], console: Console
) -> CrossValidation:
    """Join the folds' validations; choose the post-processing if no fold is missing."""
    finished = [fold for fold in range(len(parts)) if is_finished(run, fold)]
    # A training was started by hand in the fold's folder before the fold was trained.
    foreign = {fold: text for fold in finished if (text := describe_foreign(run, fold, parts[fold]))}
    for text in foreign.values():
        console.say(f"warning: {text}")
    failed = {**failed, **foreign}
    done = [fold for fold in finished if fold not in foreign]
    if not done:
        raise DeconvsegError(
            f"every fold failed, the first: {next(iter(failed.values()))}; continue with `resume=True`"
        )
    absent = [
        f"{name}: fold {fold} did not finish"
        for fold in range(len(parts))
        if fold not in done
        for name in parts[fold].val
    ]
    found = {fold: read_evaluation(fold_run(run, fold).validation / "metrics.json") for fold in done}
    merged = merge_evaluations(list(found.values()), absent)
    _join_operating_points(run, done)
    folds = {fold: tuple(case.name for case in evaluation.cases) for fold, evaluation in found.items()}
    # Cases of a finished fold that could not be predicted or evaluated are part of its evaluation.
    failed = {fold: text for fold, text in failed.items() if fold not in done}
    hashes = {str(fold): describe_run(fold_run(run, fold))["weights_sha256"] for fold in done}
    weights = {"choice": run.plan.recipe.weights, "sha256": hashes}
    result = CrossValidation(run.path, merged, folds, failed, weights=weights)
    if failed:
        console.say(f"post-processing is not chosen until all folds are finished: {list_names(failed)} failed")
        return result
    plan = run.plan
    cases = hold_out(found, plan, console)
    chosen = choose_postprocessing(cases, plan.structures, console=console)
    chosen = chosen.model_copy(update={"weights": tuple(hashes.values())})
    chosen.write(run.path)
    return replace(result, postprocessing=chosen)


def _join_operating_points(run: Run, folds: Sequence[int]) -> None:
    """Write the operating points of the out-of-fold predictions, unless a fold of an earlier version has none."""
    parts = [read_operating_points(fold_run(run, fold).path) for fold in folds]
    found = [part for part in parts if part is not None]
    if len(found) == len(parts):
        merge_operating_points(found).write(run.path)
