"""Comparison of runs: their common cases, classes and metrics, and the paired differences over these."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from deconvseg.data import list_names
from deconvseg.errors import InputError
from deconvseg.evaluation.comparing import PairedDifference, compare_paired, correct_holm
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.evaluation.metrics import choose_shown
from deconvseg.evaluation.summary import Scores, counted_classes, describe_columns, mean_over_classes
from deconvseg.reporting.comparison.differences import Difference, find_differences
from deconvseg.reporting.comparison.entries import Entry, describe_cost, list_hashes, list_left_out, read_entries

MEAN = "mean over classes"


@dataclass(frozen=True)
class Pair:
    """The second run minus the first one, in one metric of one class or of the mean over classes."""

    first: str
    second: str
    class_name: str
    metric: str
    difference: PairedDifference


@dataclass(frozen=True)
class Comparison:
    """Runs over their common ``cases``, ``classes`` and ``metrics``; ``notes`` say what was left out and why."""

    entries: tuple[Entry, ...]
    cases: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: tuple[MetricInfo, ...]
    notes: tuple[str, ...]

    @cached_property
    def by_case(self) -> list[dict[str, Mapping[str, Any]]]:
        """The common cases of each run by name."""
        common = set(self.cases)
        return [
            {case["name"]: case for case in entry.evaluation.tree["cases"] if case["name"] in common}
            for entry in self.entries
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """The scored columns: each class and, if there are several, their mean."""
        return (*self.classes, MEAN) if len(self.classes) > 1 else self.classes

    @cached_property
    def scores(self) -> Scores:
        """The scores (runs, cases, columns, metrics); NaN where an empty mask has no score.

        The mean is over the classes that occur in any mask of any run, so it is over the same classes for every run.
        """
        shape = len(self.entries), len(self.cases), len(self.classes), len(self.metrics)
        values, occurs = np.empty(shape), np.empty(shape[:3], bool)
        for run, (entry, cases) in enumerate(zip(self.entries, self.by_case, strict=True)):
            for place, name in enumerate(self.cases):
                rows = rows_by_name(entry, cases[name])
                for number, each in enumerate(self.classes):
                    row = rows[each]
                    occurs[run, place, number] = row["status"] != "both empty"
                    found = [row[metric.key] for metric in self.metrics]
                    values[run, place, number] = [np.nan if value is None else value for value in found]
        if len(self.classes) == 1:
            return values
        counted = counted_classes(occurs.reshape(-1, shape[2]))
        means = np.stack([mean_over_classes(part, counted) for part in values])
        whole: Scores = np.concatenate([values, means[:, :, None]], axis=2)
        return whole

    @cached_property
    def statistics(self) -> list[list[list[dict[str, Any]]]]:
        """Mean, interval, median and deviation of each run, column and metric."""
        _, cases, *rest = self.scores.shape
        return [
            [row.tolist() for row in np.array(describe_columns(part.reshape(cases, -1)), dtype=object).reshape(rest)]
            for part in self.scores
        ]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of runs in every column and metric; for more than two runs, p is Holm-corrected over pairs."""
        found = []
        for column, class_name in enumerate(self.columns):
            for place, metric in enumerate(self.metrics):
                numbers = list(combinations(range(len(self.entries)), 2))
                differences = [
                    compare_paired(
                        self.scores[one, :, column, place].tolist(),
                        self.scores[other, :, column, place].tolist(),
                        metric.better,
                    )
                    for one, other in numbers
                ]
                if len(numbers) > 1:
                    corrected = correct_holm([each.p for each in differences])
                    differences = [replace(each, p_holm=p) for each, p in zip(differences, corrected, strict=True)]
                names = [entry.name for entry in self.entries]
                found += [
                    Pair(names[one], names[other], class_name, metric.key, difference)
                    for (one, other), difference in zip(numbers, differences, strict=True)
                ]
        return found

    @cached_property
    def differences(self) -> list[Difference]:
        """What differs between the runs: options, plan, data, versions."""
        return find_differences([entry.run for entry in self.entries])

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain types; a missing value is None."""
        return {
            "version": 1,
            "runs": [
                {"name": entry.name, "evaluation": entry.evaluation.path.name, "cost": describe_cost(entry)}
                for entry in self.entries
            ],
            "cases": list(self.cases),
            "classes": list(self.classes),
            "metrics": [metric.to_json() for metric in self.metrics],
            "notes": list(self.notes),
            "scores": {
                entry.name: {
                    class_name: {
                        metric.key: self.statistics[run][column][place] for place, metric in enumerate(self.metrics)
                    }
                    for column, class_name in enumerate(self.columns)
                }
                for run, entry in enumerate(self.entries)
            },
            "pairs": [
                {"first": p.first, "second": p.second, "class": p.class_name, "metric": p.metric}
                | p.difference.to_json()
                for p in self.pairs
            ],
            "differences": [
                {"part": each.part, "key": each.key, "values": list(each.values)} for each in self.differences
            ],
        }


def rows_by_name(entry: Entry, case: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of a case by the name of the class."""
    return {name: case["classes"][value] for value, name in entry.evaluation.tree["labels"].items()}


def compare_runs(runs: Sequence[str | PathLike[str]], evaluations: Sequence[str | PathLike[str]] = ()) -> Comparison:
    """Compare runs, cross-validations or files of metrics over the cases, classes and metrics that all of them have.

    ``evaluations`` are as in :func:`read_entries`. A case counts if the true masks of all runs have the same shape and
    the same number of voxels of each class. Raises :class:`InputError` for fewer than two runs, if the runs have no
    class or case in common, and if empty masks were scored by different policies.

    Example:
        >>> from deconvseg.reporting import compare_runs
        >>> found = compare_runs(["RUN", "RUN"])
        >>> found.classes, len(found.cases), found.pairs[0].difference.mean
        (('disc',), 2, 0.0)

    """
    if len(runs) < 2:
        raise InputError("a comparison takes two or more runs")
    entries = read_entries([Path(run) for run in runs], [Path(file) for file in evaluations])
    policies = {str(entry.evaluation.tree["empty"]) for entry in entries}
    if len(policies) > 1:
        raise InputError(
            f"empty masks were scored by different policies, {list_names(sorted(policies))}; evaluate the masks of all "
            "runs with the same one (`empty`)"
        )
    notes: list[str] = []
    entries = _name_alike(entries, notes)
    classes = _common_classes(entries, notes)
    metrics = _common_metrics(entries, notes)
    cases = _common_cases(entries, classes, notes)
    return Comparison(tuple(entries), cases, classes, metrics, tuple(notes))


def _name_alike(entries: list[Entry], notes: list[str]) -> list[Entry]:
    """Return the runs with the class named as in the first run, if each run has only one class."""
    labels = [entry.evaluation.tree["labels"] for entry in entries]
    names = [next(iter(each.values())) for each in labels if len(each) == 1]
    if len(names) < len(entries) or len(set(names)) == 1:
        return entries
    called = "; ".join(f"{entry.name} calls it {name}" for entry, name in zip(entries, names, strict=True))
    notes.append(f"The only class of each run is treated as the same class, {names[0]}: {called}.")
    found = []
    for entry, own in zip(entries, labels, strict=True):
        tree = {**entry.evaluation.tree, "labels": dict.fromkeys(own, names[0])}
        found.append(replace(entry, evaluation=replace(entry.evaluation, tree=tree)))
    return found


def _common_classes(entries: Sequence[Entry], notes: list[str]) -> tuple[str, ...]:
    names = [list(entry.evaluation.tree["labels"].values()) for entry in entries]
    common = tuple(name for name in names[0] if all(name in others for others in names))
    listed = "; ".join(
        f"{entry.name} has {list_names(own) or 'none'}" for entry, own in zip(entries, names, strict=True)
    )
    if not common:
        raise InputError(f"the runs have no class of the same name: {listed}; evaluate them with the same classes")
    if any(len(own) > len(common) for own in names):
        notes.append(f"Only the common classes are compared, {list_names(common)}: {listed}.")
    return common


def _common_metrics(entries: Sequence[Entry], notes: list[str]) -> tuple[MetricInfo, ...]:
    trees = [entry.evaluation.tree for entry in entries]
    same_unit = len({(tree["unit"], str(tree["plan_grid"])) for tree in trees}) == 1
    same_tolerance = same_unit and len({tree["tolerance"] for tree in trees}) == 1
    chosen: list[MetricInfo] = []
    left: list[MetricInfo] = []
    for metric in entries[0].evaluation.metrics:
        everywhere = all(any(metric.key == other.key for other in entry.evaluation.metrics) for entry in entries)
        usable = (same_unit or metric.unit != "length") and (same_tolerance or not metric.at_tolerance)
        (chosen if everywhere and usable else left).append(metric)
    known = {metric.key for metric in entries[0].evaluation.metrics}
    others = [m for entry in entries[1:] for m in entry.evaluation.metrics if m.key not in known]
    # Files of earlier versions lack metrics that stand beside others.
    titles = dict.fromkeys(metric.title for metric in (*left, *others) if not metric.beside)
    if titles:
        notes.append(
            "Not compared, because a run lacks it or was evaluated in another unit, on another grid or with another "
            f"tolerance: {list_names(titles)}."
        )
    dropped = {key: sum(tree["dropped"].get(key, 0) for tree in trees) for key in known}
    return choose_shown(chosen, dropped)


def _common_cases(entries: Sequence[Entry], classes: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    by_name = [{case["name"]: case for case in entry.evaluation.tree["cases"]} for entry in entries]
    common = [name for name in by_name[0] if all(name in cases for cases in by_name)]
    held_apart = False
    for entry, cases in zip(entries, by_name, strict=True):
        if others := [name for name in cases if name not in set(common)]:
            notes.append(f"Left out, because they are not in all runs: {list_left_out(others)} of {entry.name}.")
            held_apart = True
    first = entries[0].run
    if held_apart and first.splits:
        file = str(first.path / "splits.json")
        notes.append(
            f"To compare more cases, train all runs with the same file of splits (`splits={file!r}`), or "
            "give the metrics of each run on the same held-out cases."
        )
    hashes = [list_hashes(entry) for entry in entries]
    same, resaved = [], []
    for name in common:
        found = [_describe_truth(entry, cases[name], classes) for entry, cases in zip(entries, by_name, strict=True)]
        if len(set(found)) == 1:
            same.append(name)
            endings = [PurePath(cases[name]["truth_file"]).parts[-2:] for cases in by_name]
            if len({known.get(ending) for known, ending in zip(hashes, endings, strict=True)} - {None}) > 1:
                resaved.append(name)
    if others := [name for name in common if name not in set(same)]:
        notes.append(f"Left out, because the true masks of the runs differ: {list_left_out(others)}.")
    if resaved:
        notes.append(
            "The files of the true masks differ, though they have as many voxels of each class: "
            f"{list_left_out(resaved)}."
        )
    if not same:
        raise InputError(
            "the runs have no case in common with the same true mask: "
            + "; ".join(_count_cases(entries))
            + "; predict and evaluate the same cases with each run, and give these metrics (`evaluations`)"
        )
    return tuple(same)


def _count_cases(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        names = [case["name"] for case in entry.evaluation.tree["cases"]]
        yield f"{entry.name} has {list_left_out(names) if names else 'none'}"


def _describe_truth(entry: Entry, case: Mapping[str, Any], classes: Sequence[str]) -> tuple[Any, ...]:
    rows = rows_by_name(entry, case)
    return (tuple(case["shape"]), *(rows[name]["n_truth"] for name in classes))
