"""Predict the files of a path: which cases they are, and what there is to be said about the runs."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import Case, Image, Problem, is_dataset, list_names, select_split
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
    names: Sequence[str] | None = None,
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
    cases, left_out, load = choose_cases(
        runs, images, memory=predictor.memory, splits=splits, split=split, fold=fold, names=names, told=told
    )
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


def choose_cases(
    runs: Sequence[Run],
    images: Path,
    *,
    memory: int | None = None,
    splits: str | PathLike[str] | None = None,
    split: str | None = None,
    fold: int | None = None,
    names: Sequence[str] | None = None,
    told: Prediction,
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image]]:
    """Return the cases of a path that are to be predicted, what is left out of it, and how an image is loaded.

    ``told`` takes the warnings about them. Raises :class:`InputError` for ``names`` that no case has.
    """
    channels = [channel.name for channel in runs[0].plan.channels]
    cases, left_out, load = find_cases(images, channels, memory, warn=told.warn)
    # Without a splits file the run's own is meant: it alone knows what the run was validated on.
    known, own = [case.name for case in cases], runs[0].path / "splits.json"
    chosen = select_split(known, split, splits=splits, own=own, fold=fold)
    if chosen is not None:
        cases = [case for case in cases if case.name in chosen]
        _warn_of_seen(cases, runs, split, told)
    if names is not None:
        if unknown := sorted(set(names) - {case.name for case in cases}):
            raise InputError(f"{images}: has no cases {list_names(unknown)}")
        cases = [case for case in cases if case.name in set(names)]
    for problem in left_out:
        if problem.severity == "warning":
            told.warn(f"{problem.file} {problem.message}")
    return cases, left_out, load


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
