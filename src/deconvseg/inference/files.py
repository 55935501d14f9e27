"""Predict the files of a path: which cases they are, and what there is to be said about the runs."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import Case, is_dataset, list_names, select_split
from deconvseg.errors import InputError
from deconvseg.inference.cases import predict_cases
from deconvseg.inference.finding import find_cases
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.records import Prediction
from deconvseg.progress import SILENT, Console
from deconvseg.runs import Run


def predict_files(
    predictor: Predictor,
    runs: Sequence[Run],
    images: Path,
    output: Path,
    told: Prediction,
    *,
    splits: str | PathLike[str] | None = None,
    split: str | None = None,
    fold: int | None = None,
    save_probabilities: bool = False,
    skip_existing: bool = False,
    bids: bool = False,
    console: Console = SILENT,
) -> Prediction:
    """Write the masks of a file, a folder or a dataset, as :func:`deconvseg.predict` says, into a folder.

    ``runs`` are those of the predictor; ``told`` holds what was said about them.
    """
    if images.is_dir() and images.resolve() == output.resolve():
        raise InputError(
            f"{output}: holds the images; masks among them would be taken for images: choose another folder"
        )
    channels = [channel.name for channel in predictor.plan.channels]
    cases, left_out, load = find_cases(images, channels, predictor.memory, warn=told.warn)
    # Without a splits file the run's own is meant: it alone knows what the run was validated on.
    names, own = [case.name for case in cases], runs[0].path / "splits.json"
    chosen = select_split(names, split, splits=splits, own=own, fold=fold)
    if chosen is not None:
        cases = [case for case in cases if case.name in chosen]
        _warn_of_seen(cases, runs, split, told)
    for problem in left_out:
        if problem.severity == "warning":
            told.warn(f"{problem.file} {problem.message}")
    done = predict_cases(
        predictor,
        cases,
        output,
        load=load,
        save_probabilities=save_probabilities,
        skip_existing=skip_existing,
        bids=bids,
        raise_problems=images.is_file() and not is_dataset(images),
        console=console,
    )
    done.models = told.models
    done.warnings[:0] = told.warnings
    done.problems += [f"{problem.file} {problem.message}" for problem in left_out if problem.severity == "error"]
    return done


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


def _warn_of_seen(cases: Sequence[Case], runs: Sequence[Run], split: str | None, told: Prediction) -> None:
    known = [run.splits["train"] for run in runs if (run.path / "splits.json").is_file()]
    seen = {case.name for case in cases} & {name for names in known for name in names}
    if seen and split != "train":
        told.warn(
            f"{len(seen)} of the {len(cases)} cases of the split {split} trained one of the runs, so their masks are "
            f"better than those of new cases would be: {list_names(sorted(seen))}"
        )
