"""The runs that made the masks of an evaluation, so that a report can detect masks of another run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.runs import PREDICTIONS, Run, describe_run, find_run


def find_origin(truth: Path, prediction: Path, run: str | PathLike[str] | None) -> dict[str, Any]:
    """Return the names of the compared folders, and the ``runs`` that made the predictions, if they are known.

    The runs are those that ``predict`` recorded next to its masks, else the run whose folder contains the predictions,
    else the given ``run``; each with its folder's name and the SHA-256 of its plan and weights. For a folder with masks
    of several predictions, all their runs are returned.
    """
    folder = prediction if prediction.is_dir() else prediction.parent
    runs = list({json.dumps(made_by, sort_keys=True): made_by for made_by in _recorded_runs(folder)}.values())
    if not runs:
        found = find_run(prediction) or (None if run is None else Run.open(run))
        runs = [] if found is None else [describe_run(found)]
    return {"truth": truth.absolute().name, "prediction": prediction.absolute().name, "runs": runs}


def caution_of_prediction(files: Sequence[Path], prediction: Path, limit: int = 3) -> tuple[str, ...]:
    """Return a line about the evaluated masks for which ``predict`` recorded warnings, such as unusual scans."""
    folder = prediction if prediction.is_dir() else prediction.parent
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


def _recorded_runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of every mask that is still in the folder, from its last record."""
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
