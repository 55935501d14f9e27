"""Which run made the masks of an evaluation, so that a report can tell its own from another's."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.runs import Run, file_sha256


def find_origin(truth: Path, prediction: Path, run: str | PathLike[str] | None) -> dict[str, Any]:
    """Return the names of what was compared, and the run that made the predictions where that is known.

    It is the run whose folder the predictions lie in, else the ``run`` that was named: its folder's name and the
    SHA-256 of its plan and of its weights, None where there is no such file.
    """
    made_by = find_run(prediction) or (None if run is None else Run.open(run))
    return {
        "truth": truth.absolute().name,
        "prediction": prediction.absolute().name,
        "run": None if made_by is None else describe_run(made_by),
    }


def find_run(path: Path) -> Run | None:
    """Return the innermost run whose folder holds a file or folder, or None."""
    return next((Run(folder) for folder in path.absolute().parents if _is_run(folder)), None)


def describe_run(run: Run) -> dict[str, Any]:
    """Return the name of a run's folder and the SHA-256 of its plan and of its weights."""
    plan = run.path / "plan.json"
    return {
        "name": run.path.absolute().name,
        "plan_sha256": file_sha256(plan) if plan.is_file() else None,
        "weights_sha256": _weights_hash(run),
    }


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").is_file() and (folder / "manifest.json").is_file()


def _weights_hash(run: Run) -> str | None:
    try:
        found = run.manifest.get("files", {}).get("weights.safetensors")
    except (InputError, AttributeError):
        # A report says itself that the manifest is damaged.
        return None
    return found if isinstance(found, str) else None
