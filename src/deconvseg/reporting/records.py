"""The files that a report is made of, read so that a missing one is said and not fatal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.data import read_json_object
from deconvseg.errors import InputError

CROSSVAL = "crossval.json"


@dataclass(frozen=True)
class RunRecord:
    """A run folder's files as plain data; ``gaps`` says what was missing or unreadable, one line each."""

    path: Path
    plan: Mapping[str, Any]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    gaps: Sequence[str]


@dataclass(frozen=True)
class EvaluationRecord:
    """A ``metrics.json`` as plain data."""

    path: Path
    title: str
    tree: Mapping[str, Any]

    def resolve(self, file: str) -> Path:
        """Return a file that the evaluation names; a relative one lies below its folder."""
        return self.path.parent / file


def read_run(path: Path) -> RunRecord:
    """Read a run folder, with its gaps; :class:`InputError` where it is no folder."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give the run folder that 'deconvseg train -o' made")
    gaps: list[str] = []
    return RunRecord(
        path=path,
        plan=_read_part(path / "plan.json", "the plan", gaps),
        config=_read_part(path / "config.json", "what was asked for", gaps),
        manifest=_read_part(path / "manifest.json", "versions, machine and hashes", gaps),
        # A cross-validation has learning curves in its folds alone.
        metrics=[] if (path / CROSSVAL).is_file() else _read_rows(path / "metrics.jsonl", gaps),
        gaps=gaps,
    )


def read_evaluation(path: Path, title: str | None = None) -> EvaluationRecord:
    """Read a ``metrics.json``; :class:`InputError` where it is missing or something else."""
    tree = read_json_object(path)
    if tree.get("version") != 1 or not {"cases", "summary", "labels", "counts", "unit"} <= tree.keys():
        raise InputError(f"{path}: not a metrics.json of version 1; write it with 'deconvseg evaluate -o'")
    split = {"train": "Training cases", "val": "Validation", "test": "Held-out test"}.get(str(tree.get("split")))
    name = path.absolute().parent.name if path.stem == "metrics" else path.stem
    return EvaluationRecord(path, title or split or f"Evaluation: {name}", tree)


def _read_part(path: Path, meaning: str, gaps: list[str]) -> dict[str, Any]:
    if not path.is_file():
        gaps.append(f"{path.name} ({meaning}) is not in the run folder.")
        return {}
    try:
        return read_json_object(path)
    except InputError as error:
        gaps.append(f"{error}.")
        return {}


def _read_rows(path: Path, gaps: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        gaps.append(f"{path.name} (the learning curves) is not in the run folder.")
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("epoch"), int):
            rows.append(row)
        else:
            gaps.append(f"{path.name}: line {number} is not a row of metrics and was left out.")
    return rows
