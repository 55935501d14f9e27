"""A cell of a table: a cross-validation of one row on one dataset with one seed, and its scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconvseg.data import open_dataset, read_json_object
from deconvseg.errors import DeconvsegError
from deconvseg.evaluation import CaseMetrics, Evaluation, evaluate
from deconvseg.experiments.cross_validation import crossval
from deconvseg.experiments.protocols.planning import plan_cell
from deconvseg.experiments.protocols.reading import parse_protocol
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol, ProtocolColumn, ProtocolDataset
from deconvseg.experiments.protocols.splitting import read_folds_of
from deconvseg.experiments.protocols.trainings import describe_training
from deconvseg.experiments.tasks import Task
from deconvseg.experiments.testing import AVERAGE, TEST
from deconvseg.inference import predict
from deconvseg.planning import Plan
from deconvseg.progress import Console
from deconvseg.runs import FOLDS, Run, WeightsChoice
from deconvseg.system import write_text
from deconvseg.text import dump_json

CELL_FILE = "cell.json"
_CV = "crossval"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell is: plain values, from which any process can run it."""

    protocol: Mapping[str, Any]
    row: str
    dataset: str
    seed: int
    root: str
    splits: str
    output: str
    scale: Mapping[str, Any]
    values: Mapping[str, Any]
    weights: WeightsChoice
    device: str = "auto"
    workers: int | None = None
    cache: str | None = None
    members: Mapping[str, str] | None = None

    @property
    def folder(self) -> Path:
        """The folder of the cell."""
        return Path(self.output)

    @property
    def runs(self) -> Path:
        """The folder of its cross-validation."""
        return self.folder / _CV

    @property
    def key(self) -> str:
        """The name that is shown before its lines."""
        return f"{self.row}, {self.dataset}, seed {self.seed}" if self.seed else f"{self.row}, {self.dataset}"

    def task(self) -> Task:
        """Return the task that runs the cell, or continues it."""
        return Task(self.key, f"{__name__}:run_cell", asdict(self))

    def read(self) -> Mapping[str, Any] | None:
        """Return the result of a finished cell, or None."""
        file = self.folder / CELL_FILE
        return read_json_object(file) if file.is_file() else None

    @property
    def finished(self) -> bool:
        """Whether all of the cell is trained and scored."""
        record = self.read()
        return record is not None and not record["failed"]


def run_cell(*, console: Console, **arguments: Any) -> str:
    """Train and score a cell, and write its ``cell.json``; return the file's path.

    Raises :class:`~deconvseg.errors.DeconvsegError` if a fold failed, after the scores of the others were written.
    """
    cell = Cell(**arguments)
    protocol = parse_protocol(cell.protocol, str(cell.protocol.get("key")))
    failed: Mapping[int, str] = {}
    if cell.members is None:
        failed = _train(cell, protocol, console)
    scores, shown = _score(cell, protocol, [fold for fold in _folds(cell) if fold not in failed], console)
    record = {"row": cell.row, "dataset": cell.dataset, "seed": cell.seed, "columns": scores, "shown": shown}
    if cell.members is None:
        trained = [fold for fold in _folds(cell) if fold not in failed]
        record["made"] = [describe_training(Run(cell.runs / f"fold_{fold}"), fold) for fold in trained]
    text = "; ".join(f"fold {fold}: {reason}" for fold, reason in failed.items())
    file = cell.folder / CELL_FILE
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_text(file, dump_json({**record, "failed": text or None}) + "\n")
    if text:
        raise DeconvsegError(text)
    return str(file)


def _folds(cell: Cell) -> list[int]:
    return list(range(len(read_folds_of(Path(cell.splits)))))


def _train(cell: Cell, protocol: Protocol, console: Console) -> Mapping[int, str]:
    """Run or continue the cross-validation; return the reasons of failed folds."""
    options: dict[str, Any] = {
        "device": cell.device,
        "workers": cell.workers,
        "jobs": 1,
        "test": protocol.dataset(cell.dataset).test is not None,
        "console": console,
    }
    if (cell.runs / FOLDS).is_file():
        result = crossval(cell.root, cell.runs, resume=True, **options)
    else:
        cell.folder.mkdir(parents=True, exist_ok=True)
        result = crossval(
            *(cell.root, cell.runs),
            plan=_plan(cell, protocol, console),
            splits=cell.splits,
            folds=len(_folds(cell)),
            foreground=protocol.dataset(cell.dataset).foreground,
            weights=cell.weights,
            seed=cell.seed,
            max_seconds=Scale(**cell.scale).seconds,
            cache=cell.cache,
            **options,
        )
    if result.test is not None and result.test.failed:
        raise DeconvsegError("; ".join(result.test.problems))
    return result.failed


def _plan(cell: Cell, protocol: Protocol, console: Console) -> Plan:
    return plan_cell(
        protocol,
        protocol.row(cell.row),
        protocol.dataset(cell.dataset),
        open_dataset(cell.root, foreground=protocol.dataset(cell.dataset).foreground),
        read_folds_of(Path(cell.splits)),
        scale=Scale(**cell.scale),
        values=cell.values,
        device=cell.device,
        workers=cell.workers,
        console=console,
    )


def _score(
    cell: Cell, protocol: Protocol, folds: Sequence[int], console: Console
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return for every column of the cell's dataset the scores of folds and of cases; and what figures show.

    These are, for each fold, a run and the masks by case, relative to the cell's folder.
    """
    dataset = protocol.dataset(cell.dataset)
    columns = [column for column in protocol.columns if column.dataset == cell.dataset]
    scores: dict[str, Any] = {column.key: {"folds": [], "cases": []} for column in columns}
    shown: dict[str, Any] = {}
    for fold, masks, run in _predictions(cell, dataset, folds, console):
        for scoring in dict.fromkeys(column.scoring for column in columns):
            same = [column for column in columns if column.scoring == scoring]
            found = _evaluate(cell, dataset, masks, run, fold, same, console)
            for column in same:
                _add(scores[column.key], found, column, fold)
            files = {case.name: _relative(cell, case.prediction_file) for case in found.cases}
            shown[str(fold)] = {"run": _relative(cell, run), "masks": files}
    return scores, shown


def _relative(cell: Cell, path: Path) -> str:
    return Path(os.path.relpath(path.absolute(), cell.folder)).as_posix()


def _predictions(
    cell: Cell, dataset: ProtocolDataset, folds: Sequence[int], console: Console
) -> list[tuple[int, Path, Path]]:
    """Return the masks that are scored: a number (of the fold), their folder, and a run that made them."""
    runs = {fold: [Path(path) / _CV / f"fold_{fold}" for path in _sources(cell)] for fold in folds}
    if not _made_by_crossval(cell):
        return _predict(cell, dataset, runs, console)
    if dataset.test == "average":
        # The average of a cross-validation needs all its folds.
        complete = len(runs) == len(_folds(cell))
        return [(0, cell.runs / TEST / AVERAGE, runs[folds[0]][0])] if complete else []
    tested = dataset.test is not None
    return [(fold, cell.runs / TEST / own.name if tested else own / "validation", own) for fold, (own,) in runs.items()]


def _made_by_crossval(cell: Cell) -> bool:
    """Return whether the cross-validation of the cell has the scored masks: it evaluates the scored weights."""
    return cell.members is None and Run.open(cell.runs).plan.recipe.weights == cell.weights


def _predict(
    cell: Cell, dataset: ProtocolDataset, sources: Mapping[int, Sequence[Path]], console: Console
) -> list[tuple[int, Path, Path]]:
    """Predict with the mean of several cells, or with other weights than those that were evaluated."""
    split: Literal["test", "val"] = "val" if dataset.test is None else "test"
    groups = dict(sources)
    if dataset.test == "average":
        groups = {0: [run for runs in sources.values() for run in runs]}
    found = []
    for fold, runs in groups.items():
        masks = cell.folder / split / (f"fold_{fold}" if len(groups) > 1 or dataset.test != "average" else AVERAGE)
        predict(
            cell.root,
            runs,
            masks,
            weights=cell.weights,
            threshold="default",
            splits=cell.splits,
            split=split,
            fold=fold,
            precision="32",
            postprocess=False,
            save_regions=Run.open(runs[0]).plan.scored_by_region,
            skip_existing=True,
            device=cell.device,
            console=console,
        )
        found.append((fold, masks, runs[0]))
    return found


def _sources(cell: Cell) -> Sequence[str]:
    return [cell.output] if cell.members is None else list(cell.members.values())


def _evaluate(
    cell: Cell,
    dataset: ProtocolDataset,
    masks: Path,
    run: Path,
    fold: int,
    columns: Sequence[ProtocolColumn],
    console: Console,
) -> Evaluation:
    first = columns[0]
    return evaluate(
        *(cell.root, masks),
        run=run,
        splits=cell.splits,
        split="val" if dataset.test is None else "test",
        fold=fold,
        metrics=[column.metric for column in columns],
        unit="voxel" if first.unit == "voxel" else "mm",
        grid=first.grid,
        empty=first.empty,
        console=console,
    )


def _add(scores: dict[str, Any], found: Evaluation, column: ProtocolColumn, fold: int) -> None:
    values = [(case.name, _value(found, case, column)) for case in found.cases]
    known = [value for _, value in values if value is not None]
    scores["folds"].append({"fold": fold, "value": float(np.mean(known)) if known else None})
    scores["cases"] += [{"case": name, "value": value, "fold": fold} for name, value in values]


def _value(found: Evaluation, case: CaseMetrics, column: ProtocolColumn) -> float | None:
    """Return a case's score in the unit of the column."""
    if column.structure:
        named = {name.lower(): value for value, name in found.labels.items()}
        if column.structure.lower() not in named:
            raise DeconvsegError(
                f"column {column.key!r}: the masks have {', '.join(found.labels.values())}, not {column.structure!r}"
            )
        score = case.metrics[named[column.structure.lower()]][column.metric]
    else:
        score = case.mean[column.metric]
    return None if score is None else float(score) * (100 if column.unit == "%" else 1)
