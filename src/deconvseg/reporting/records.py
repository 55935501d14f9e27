"""The files that a report reads; a missing one is reported and is not fatal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deconvseg import evaluation
from deconvseg.data import class_colours, find_beside, list_names, parse_colour, read_json_object
from deconvseg.errors import InputError
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.evaluation.metrics import choose_shown
from deconvseg.evaluation.origin import caution_of_seen
from deconvseg.reporting.checking import CrossValidation, Plan, Splits
from deconvseg.runs import Run, check_entries, describe_run, find_run, is_described, name_seen, parse_row

CROSSVAL = "crossval.json"


@dataclass(frozen=True)
class RunRecord:
    """The files of a run folder as plain data; ``gaps`` lists what was missing or unreadable, one line each."""

    path: Path
    plan: Mapping[str, Any]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    gaps: Sequence[str]
    splits: Mapping[str, Any] = field(default_factory=dict)
    folds: Sequence[Sequence[Mapping[str, Any]]] = ()

    @property
    def class_names(self) -> list[str]:
        """The names of the network's outputs: the regions of the plan if it has any, else the foreground classes."""
        regions = self.plan.get("regions")
        labels = self.plan.get("labels") or {}
        pairs = zip(labels.get("values") or (), labels.get("names") or (), strict=False)
        return [each["name"] for each in regions] if regions else [name for value, name in pairs if value != 0]

    @property
    def colours(self) -> dict[str, str]:
        """The colours of the structures by name: as declared in the plan, else defaults by their order."""
        declared = self.plan.get("colours") or {}
        return class_colours(self.class_names, {name: parse_colour(text) for name, text in declared.items()})


@dataclass(frozen=True)
class EvaluationRecord:
    """A ``metrics.json`` as plain data, and the origin of its masks.

    ``source`` describes the origin in one line; ``foreign`` is true if a run other than that of the report made them.
    ``seen`` warns of cases that trained the run, ``grid`` describes the grid of a plan on which masks were scored, and
    ``regions`` says if regions were scored from files of their own.
    """

    path: Path
    title: str
    tree: Mapping[str, Any]
    metrics: tuple[MetricInfo, ...]
    source: str = ""
    foreign: bool = False
    seen: str = ""
    grid: str = ""
    regions: str = ""

    @property
    def shown(self) -> tuple[MetricInfo, ...]:
        """The metrics for tables and pictures of this evaluation alone."""
        return choose_shown(self.metrics, self.tree["dropped"])

    def resolve(self, file: str) -> Path:
        """Return the path of a file that the evaluation names relative to its folder."""
        return find_beside(file, self.path.parent)


def read_run(path: Path) -> RunRecord:
    """Read a run folder and its gaps; :class:`InputError` if it is not a folder."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give the run folder that training made")
    gaps: list[str] = []
    return RunRecord(
        path=path,
        plan=_read_part(path / "plan.json", "the plan", gaps, Plan),
        config=_read_part(path / "config.json", "the requested options", gaps),
        manifest=_read_part(path / "manifest.json", "versions, machine and hashes", gaps),
        # A cross-validation has learning curves only in its folds.
        metrics=[] if (path / CROSSVAL).is_file() else _read_rows(path / "metrics.jsonl", gaps),
        gaps=gaps,
        splits=_read_part(path / "splits.json", "the cases of each split", [], Splits),
        folds=[
            _read_rows(file, gaps) for file in sorted(path.glob("fold_*/metrics.jsonl")) if (path / CROSSVAL).is_file()
        ],
    )


def read_evaluation(path: Path, run: Path, title: str | None = None) -> EvaluationRecord:
    """Read a ``metrics.json`` for the report of a run; :class:`InputError` if it is missing or another kind of file.

    Means are recomputed from the cases, so that they follow the definitions of this version.
    """
    found = evaluation.read_evaluation(path)
    tree = {**read_json_object(path), **found.to_json(path.parent.absolute())}
    check_entries(path, tree, CrossValidation)
    split = {"train": "Training cases", "val": "Validation", "test": "Held-out test"}.get(str(tree.get("split")))
    name = path.absolute().parent.name if path.stem == "metrics" else path.stem
    source, foreign = _find_source(path, tree, run)
    seen = "" if title else _warn_of_seen(path, tree, run, foreign=foreign)
    title = title or f"{split or 'Evaluation'}: {name}"
    how = (text or "" for text in (found.describe_grid(), found.describe_region_files()))
    return EvaluationRecord(path, title, tree, found.metrics, source, foreign, seen, *how)


def _warn_of_seen(path: Path, tree: Mapping[str, Any], run: Path, *, foreign: bool) -> str:
    """Warn of evaluated cases that were training cases: as recorded, else by the splits of the report's own run."""
    # Training cases that were asked for have that title; a cross-validation evaluates each case by another fold.
    if tree.get("split") == "train" or tree.get("spread"):
        return ""
    seen, names = tree["origin"].get("trained_on"), [str(case["name"]) for case in tree["cases"]]
    if not isinstance(seen, list):
        made_by = tree["origin"].get("runs") or _runs_around(path, tree)
        own = [Run(folder) for folder in (run, *sorted(run.glob("fold_*")))]
        made = [one for one in own if any(is_described(one, each) for each in made_by)] if made_by else own[:1]
        seen = [] if foreign else name_seen(names, made)
    return caution_of_seen(seen, len(names))


def _find_source(path: Path, tree: Mapping[str, Any], run: Path) -> tuple[str, bool]:
    """Return a line about the runs that made the masks, and whether they are other runs than this one."""
    masks = f"{path.name} of {path.absolute().parent.name}"
    if path.resolve().is_relative_to(run.resolve()):
        return f"{masks}, in this run's folder", False
    made_by = tree["origin"].get("runs") or _runs_around(path, tree)
    if not made_by:
        return f"{masks}; the file does not record which run made the masks", False
    own = [Run(folder) for folder in (run, *sorted(run.glob("fold_*")))]
    others = [each for each in made_by if not any(is_described(one, each) for one in own)]
    if not others:
        return f"{masks}; masks made by this run", False
    names = list_names([str(each.get("name")) for each in others])
    return f"{masks}; masks made by {'another run' if len(others) == 1 else 'other runs'}, {names}", True


def _runs_around(path: Path, tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the run whose folder contains a ``metrics.json``, or the first of its predictions."""
    files = [path, *(path.parent / case["prediction_file"] for case in tree["cases"][:1])]
    found = next((run for file in files if (run := find_run(file)) is not None), None)
    return [] if found is None else [describe_run(found)]


def _read_part(path: Path, meaning: str, gaps: list[str], kind: type[Plan | Splits] | None = None) -> dict[str, Any]:
    if not path.is_file():
        gaps.append(f"{path.name} ({meaning}) is not in the run folder.")
        return {}
    try:
        tree = read_json_object(path)
        if kind is not None:
            check_entries(path, tree, kind)
        return tree
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
            rows.append(parse_row(line))
        except ValueError:
            gaps.append(f"{path.name}: line {number} is not a row of metrics and was left out.")
    return rows
