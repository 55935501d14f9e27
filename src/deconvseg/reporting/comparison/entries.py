"""The entries of a comparison: runs, cross-validations and files of metrics, each with its evaluation."""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from deconvseg.data import list_names
from deconvseg.errors import InputError
from deconvseg.reporting.facts import format_duration
from deconvseg.reporting.overview import training_seconds
from deconvseg.reporting.records import CROSSVAL, EvaluationRecord, RunRecord, read_evaluation, read_run
from deconvseg.text import number_of

# The header of a safetensors file is short; a longer one is damaged (the format's own bound).
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Entry:
    """An entry of a comparison: its name on the page, its run (empty if unknown), its evaluation."""

    name: str
    run: RunRecord
    evaluation: EvaluationRecord


def read_entries(paths: Sequence[Path], evaluations: Sequence[Path] = ()) -> list[Entry]:
    """Read the entries of a comparison: folders of runs or cross-validations, or ``metrics.json`` files.

    ``evaluations`` are files of metrics, one for each run in the order of the runs; by default the metrics of the
    validation are used. Raises :class:`InputError` if an evaluation is missing or is about the masks of another run, or
    if the numbers of evaluations and runs differ.
    """
    if evaluations and len(evaluations) != len(paths):
        raise InputError(
            f"{len(paths)} runs are compared, but {len(evaluations)} files of metrics are given (`evaluations`); give "
            "one for each run, in the order of the runs"
        )
    names = _tell_apart(paths)
    given: list[Path | None] = [*evaluations] or [None] * len(paths)
    return [_read_entry(name, path, file) for name, path, file in zip(names, paths, given, strict=True)]


def _read_entry(name: str, path: Path, evaluation: Path | None) -> Entry:
    if path.is_file():
        if evaluation is not None:
            raise InputError(f"{path}: a file of metrics, but {evaluation} is given for it too; give the run's folder")
        return Entry(name, RunRecord(path.absolute().parent, {}, {}, {}, [], []), read_evaluation(path, path.parent))
    run = read_run(path)
    if evaluation is not None:
        found = read_evaluation(evaluation, path)
        if found.foreign:
            raise InputError(f"{evaluation}: {found.source}, not by {path}; give the metrics in the order of the runs")
        return Entry(name, run, found)
    own = path / CROSSVAL if (path / CROSSVAL).is_file() else path / "validation" / "metrics.json"
    if not own.is_file():
        raise InputError(
            f"{path}: has no {own.relative_to(path).as_posix()}, so there is nothing to compare; give a finished run, "
            "or a metrics.json of each run (`evaluations`)"
        )
    return Entry(name, run, read_evaluation(own, path, "Cross-validation" if own.name == CROSSVAL else "Validation"))


def _tell_apart(paths: Sequence[Path]) -> list[str]:
    """Return a short unique name for each path: its last parts, and a number if a path is repeated."""
    parts = [_name_parts(path) for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{each[-1]} ({number})" for number, each in enumerate(parts, 1)]


def _name_parts(path: Path) -> list[str]:
    whole = path.absolute()
    named = whole.parent if whole.is_file() and whole.stem == "metrics" else whole
    return [part for part in named.with_suffix("").parts if part != named.anchor] or [str(path)]


def list_hashes(entry: Entry) -> dict[tuple[str, ...], str]:
    """Return the SHA-256 of the files that a run has read, by the names of folder and file if these are unique."""
    data = entry.run.manifest.get("data")
    found: dict[tuple[str, ...], set[str]] = {}
    for name, digest in data.items() if isinstance(data, dict) else ():
        found.setdefault(PurePath(name).parts[-2:], set()).add(str(digest))
    return {ending: digests.pop() for ending, digests in found.items() if len(digests) == 1}


def describe_cost(entry: Entry) -> dict[str, str]:
    """Return the recorded costs of a run by name: parameters, time, memory."""
    run = entry.run
    predicted = run.plan.get("predicted") or {}
    rows = [rows[-1] for rows in (run.metrics, *run.folds) if rows]
    steps = sum(int(row.get("step") or 0) for row in rows)
    seconds = training_seconds(run)
    facts: dict[str, str] = {}
    if (count := count_parameters(run.path)) is not None:
        facts["Parameters"] = f"{count:,}"
    if seconds:
        facts["Training time"] = format_duration(seconds)
    if steps:
        facts["Optimiser steps"] = f"{steps:,}"
    if steps and seconds:
        facts["Seconds a step, validation included"] = f"{seconds / steps:.3g}"
    for key, title in (("memory_bytes", "Memory of training, planned"), ("inference_memory_bytes", "of prediction")):
        if predicted.get(key):
            facts[title] = f"{predicted[key] / 2**20:,.0f} MiB"
    if machine := (run.manifest.get("machine") or {}):
        threads = (
            f", {machine['threads']} thread{'' if machine['threads'] == 1 else 's'}" if "threads" in machine else ""
        )
        facts["Machine"] = str(machine.get("accelerator") or f"{machine.get('processor', 'CPU')}{threads}")
    return facts


def count_parameters(run: Path) -> int | None:
    """Return the number of weights of a run, or of its first fold, from the header of the file; None without a file."""
    for file in (run / "weights.safetensors", run / "fold_0" / "weights.safetensors"):
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            start = opened.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            content = opened.read(length) if 0 < length <= _LONGEST_HEADER else b""
        try:
            header = json.loads(content)
            return sum(int(math.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return None


def list_left_out(names: Sequence[str]) -> str:
    """Return the number of cases and their names."""
    return f"{number_of(len(names), 'case')} ({list_names(names)})"
