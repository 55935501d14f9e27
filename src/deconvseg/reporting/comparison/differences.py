"""What differs between runs: options, plan, data, versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.reporting.facts import flatten, is_hash, tell_extensions
from deconvseg.reporting.records import RunRecord
from deconvseg.reporting.tables import DASH

# Parts of a plan that only explain it, and parts of a manifest that other rows show.
_EXPLAINS = ("reasons", "chosen", "predicted", "data", "warnings")
_TOLD = ("command", "files", "data", "listing", "states", "replaced", "finished")


@dataclass(frozen=True)
class Difference:
    """A value that differs between runs: its part, its name, and the value of each run."""

    part: str
    key: str
    values: tuple[str, ...]


def find_differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """Return what differs between runs, in the order of the files; a run without a value has a dash."""
    parts = {
        "options": [dict(flatten(run.config)) for run in runs],
        "plan": [_flatten_plan(run.plan) for run in runs],
        "data": [_describe_data(run) for run in runs],
        "versions and machine": [
            dict(flatten(tell_extensions({k: v for k, v in run.manifest.items() if k not in _TOLD}))) for run in runs
        ],
    }
    found = []
    for part, trees in parts.items():
        # A run without this part does not count as different.
        if not all(trees):
            continue
        for key in dict.fromkeys(key for tree in trees for key in tree):
            values = tuple(_shorten(tree.get(key, DASH)) for tree in trees)
            if len(set(values)) > 1:
                found.append(Difference(part, key, values))
    return found


def _flatten_plan(plan: Mapping[str, Any]) -> dict[str, str]:
    return dict(flatten({key: value for key, value in plan.items() if key not in _EXPLAINS}))


def _describe_data(run: RunRecord) -> dict[str, str]:
    """Return the number of cases in each split, and the number of files read."""
    counts = {f"{name} cases": str(len(run.splits.get(name, ()))) for name in ("train", "val", "test")}
    files = run.manifest.get("data")
    if isinstance(files, Mapping):
        # One hash over the hashes of all files shows whether their contents differ.
        counts["files read"] = str(len(files))
        counts["contents"] = _fingerprint(files)
    return counts if run.splits or files else {}


def _fingerprint(files: Mapping[str, Any]) -> str:
    from hashlib import sha256

    text = "\n".join(sorted(str(digest) for digest in files.values()))
    return sha256(text.encode()).hexdigest()[:12]


def _shorten(text: str) -> str:
    return text[:12] if is_hash(text) else text
