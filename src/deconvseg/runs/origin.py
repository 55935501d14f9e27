"""Find the run of a file, and identify runs independently of their folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from deconvseg.data import file_sha256
from deconvseg.errors import InputError
from deconvseg.runs.folder import Run
from deconvseg.runs.weight_files import WeightsChoice, file_of

# The file next to the masks of `predict`: a JSON line per mask, with "runs" as in `describe_run`.
PREDICTIONS = "predictions.jsonl"


def find_run(path: Path) -> Run | None:
    """Return the innermost run whose folder contains a file or folder, or None.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.runs import find_run
        >>> find_run(Path("RUN/validation")).finished
        True
        >>> find_run(Path("SCANS")) is None
        True

    """
    return next((Run(folder) for folder in path.absolute().parents if _is_run(folder)), None)


def name_seen(names: Iterable[str], runs: Iterable[Run]) -> list[str]:
    """Return the names that are training cases of one of the runs, sorted; runs without splits are skipped.

    Example:
        >>> from deconvseg.runs import Run, name_seen
        >>> name_seen(["disc7", "disc0", "new"], [Run.open("RUN")])
        ['disc0']

    """
    trained: set[str] = set()
    for run in runs:
        if (run.path / "splits.json").is_file():
            with suppress(InputError):
                trained |= set(run.splits["train"])
    return sorted(trained.intersection(names))


def describe_run(run: Run, which: WeightsChoice | None = None) -> dict[str, Any]:
    """Return the name of a run's folder, the SHA-256 of its plan and weights, and the labels of its masks.

    ``which`` are the "final" or the "best" weights, by default those that the recipe chooses. The hash of a missing
    file is None. ``labels`` maps the values in masks to names, ``colours`` maps names to colours; both are empty
    without a plan.
    """
    plan, which = run.path / "plan.json", which or _default_weights(run)
    return {
        "name": run.path.absolute().name,
        "plan_sha256": file_sha256(plan) if plan.is_file() else None,
        "weights": which,
        "weights_sha256": _weights_hash(run, which),
        **_describe_labels(run),
    }


def _describe_labels(run: Run) -> dict[str, dict[str, str]]:
    try:
        plan = run.plan
    except InputError:
        # The report itself states that the plan is missing or damaged.
        return {"labels": {}, "colours": {}}
    return {
        "labels": {str(structure.written_as): structure.name for structure in plan.structures},
        "colours": plan.class_colours,
    }


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").is_file() and (folder / "manifest.json").is_file()


def is_described(run: Run, made: Mapping[str, Any]) -> bool:
    """Return whether a description of :func:`describe_run` is that of this run with its final or its best weights.

    Hashes are compared as far as both have them; without any in common the answer is no.

    Example:
        >>> from deconvseg.runs import Run, describe_run, is_described
        >>> run = Run.open("RUN")
        >>> is_described(run, describe_run(run, "best")), is_described(run, {"name": "RUN"})
        (True, False)

    """
    own = describe_run(run)
    hashes = {digest for which in get_args(WeightsChoice) if (digest := _weights_hash(run, which)) is not None}
    compared = []
    if made.get("plan_sha256") and own["plan_sha256"]:
        compared.append(made["plan_sha256"] == own["plan_sha256"])
    if made.get("weights_sha256") and hashes:
        compared.append(made["weights_sha256"] in hashes)
    return bool(compared) and all(compared)


def _default_weights(run: Run) -> WeightsChoice:
    try:
        return run.plan.recipe.weights
    except InputError:
        # The report itself states that the plan is missing or damaged.
        return "final"


def _weights_hash(run: Run, which: WeightsChoice) -> str | None:
    try:
        found = run.manifest.get("files", {}).get(file_of(which))
    except (InputError, AttributeError):
        # The report itself states that the manifest is damaged.
        return None
    return found if isinstance(found, str) else None
