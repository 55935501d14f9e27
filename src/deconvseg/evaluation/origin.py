"""The runs that made the masks of an evaluation, so that a report can detect masks of another run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import find_beside, list_names
from deconvseg.runs import PREDICTIONS, Run, describe_run, find_run, is_described


def find_origin(truth: Path, prediction: Path, run: str | PathLike[str] | None) -> dict[str, Any]:
    """Return the names of the compared folders, and the ``runs`` that made the predictions, if they are known.

    The runs are those that ``predict`` recorded next to its masks, else the run whose folder contains the predictions,
    else the given ``run``; each with its folder's name and the SHA-256 of its plan and weights. For a folder with masks
    of several predictions, all their runs are returned.
    """
    runs = _distinct(
        {key: value for key, value in run.items() if key != "folder"} for run in _recorded_runs(prediction)
    )
    if not runs:
        found = find_run(prediction) or (None if run is None else Run.open(run))
        runs = [] if found is None else [describe_run(found)]
    return {"truth": truth.absolute().name, "prediction": prediction.absolute().name, "runs": runs}


def find_runs(prediction: Path, run: str | PathLike[str] | None) -> list[Run]:
    """Return the runs that made the predictions, as in :func:`find_origin`, as far as their folders are found.

    A recorded run is looked for where its folder was at the prediction, next to the masks, and in ``run``. A folder is
    only accepted with the recorded weights.
    """
    around = find_run(prediction)
    given = [] if run is None else [Run.open(run)]
    recorded = _distinct(_recorded_runs(prediction))
    if not recorded:
        return [around] if around is not None else given
    folder = _folder_of(prediction)
    others = [*given, *([] if around is None else [around])]
    found = []
    for made_by in recorded:
        places = [find_beside(made_by["folder"], folder)] if isinstance(made_by.get("folder"), str) else []
        places += [folder.parent / made_by["name"]] if isinstance(made_by.get("name"), str) else []
        candidates = [*(Run(place) for place in places if (place / "plan.json").is_file()), *others]
        weights = {"weights_sha256": made_by.get("weights_sha256")}
        found += [one for one in candidates if is_described(one, weights)][:1]
    return found


def caution_of_seen(seen: Sequence[str], count: int) -> str:
    """Return a warning that some of ``count`` evaluated cases trained the network; empty if none did."""
    if not seen:
        return ""
    which = "the evaluated case" if count == 1 else f"{len(seen)} of these {count} cases"
    return (
        f"{which} {'was a training case' if len(seen) == 1 else 'were training cases'} (by name) of the run that made "
        f"the masks, so this is not a test and the masks are better than for new cases: {list_names(seen)}"
    )


def caution_of_prediction(files: Sequence[Path], prediction: Path, limit: int = 3) -> tuple[str, ...]:
    """Return a line about the evaluated masks for which ``predict`` recorded warnings, such as unusual scans."""
    folder = _folder_of(prediction)
    evaluated = {file.absolute() for file in files}
    doubts = [
        (mask, text)
        for mask, record in last_records(folder).items()
        if (folder / mask).absolute() in evaluated and isinstance(record.get("warnings"), list)
        for text in record["warnings"]
        # Warnings about the mask itself are covered by the evaluation.
        if isinstance(text, str) and not text.startswith("the mask is ")
    ]
    if not doubts:
        return ()
    shown = "; ".join(f"{mask}: {text}" for mask, text in doubts[:limit])
    more = f"; and {len(doubts) - limit} more in {PREDICTIONS}" if len(doubts) > limit else ""
    return (f"the prediction warned of {len({mask for mask, _ in doubts})} of the masks: {shown}{more}",)


def _folder_of(prediction: Path) -> Path:
    return prediction if prediction.is_dir() else prediction.parent


def _distinct(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({json.dumps(run, sort_keys=True): run for run in runs}.values())


def _recorded_runs(prediction: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of every mask that is still in the folder, from its last record."""
    folder = _folder_of(prediction)
    for mask, record in last_records(folder).items():
        if isinstance(record.get("runs"), list) and (folder / mask).is_file():
            yield from (run for run in record["runs"] if isinstance(run, dict))


def last_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last record of every mask in a folder by its name; damaged lines are skipped."""
    try:
        lines = (folder / PREDICTIONS).read_bytes().splitlines()
    except OSError:
        return {}
    last: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("mask"), str):
            last[record["mask"]] = record
    return last
