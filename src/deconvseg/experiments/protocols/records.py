"""Records of finished cells as CSV files, from which an interrupted table goes on elsewhere."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.experiments.protocols.cells import CELL_FILE, Cell
from deconvseg.experiments.protocols.costs import Costs
from deconvseg.experiments.protocols.reading import find_network, parse_protocol, preset_of
from deconvseg.experiments.protocols.schema import Protocol
from deconvseg.system import hold, write_text
from deconvseg.text import dump_json

_KEYS = ("row", "seed", "fold")
_TRAINING = ("steps", "parameters", "kflops", "seconds", "processor", "threads", "torch", "version", "commit")
_NUMBERS = ("parameters", "kflops")
_CELLS = (*_KEYS, *_TRAINING, "definition")
_OF_CELLS, _OF_CASES = "-cells.csv", "-cases.csv"
# Digits of a score after the point, in the unit of its column.
_DIGITS = 4
# Another process holds the files only while it writes them.
_PATIENCE = 60.0
_Line = Mapping[str, str]


@dataclass(frozen=True)
class Recorded:
    """A finished cell of a record: its trainings by fold, and the scores of its cases by fold, case and column."""

    definition: str
    trainings: tuple[_Line, ...]
    cases: tuple[_Line, ...]

    def to_cell(self, cell: Cell, columns: Sequence[str]) -> dict[str, Any]:
        """Return what ``cell.json`` has of a cell that was trained here, without masks to show."""
        scores = {key: self.scores(key) for key in columns}
        made = [{key: line[key] for key in ("fold", *_TRAINING)} for line in self.trainings]
        names = {"row": cell.row, "dataset": cell.dataset, "seed": cell.seed}
        return {**names, "columns": scores, "shown": {}, "made": made, "failed": None}

    def scores(self, column: str) -> dict[str, list[dict[str, Any]]]:
        """Return the scores of a column, by its key: the means of the ``folds``, and those of all ``cases``."""
        cases = [_score(line, column.partition("/")[2]) for line in self.cases]
        folds = []
        for line in self.trainings:
            values = [case["value"] for case in cases if str(case["fold"]) == line["fold"]]
            known = [value for value in values if value is not None]
            folds.append({"fold": int(line["fold"]), "value": sum(known) / len(known) if known else None})
        return {"folds": folds, "cases": cases}


def _score(line: _Line, name: str) -> dict[str, Any]:
    text = line.get(name, "")
    return {"case": line["case"], "value": float(text) if text else None, "fold": int(line["fold"])}


def define(cell: Cell) -> str:
    """Return a hash of what a cell is: its network, dataset, plan, steps, scale, seed and columns, not its titles."""
    protocol = parse_protocol(cell.protocol, str(cell.protocol.get("key")))
    row, dataset = protocol.row(cell.row), protocol.dataset(cell.dataset)
    network = [define_network(protocol, member, cell.dataset) for member in row.members or (cell.row,)]
    columns = [
        column.model_dump(mode="json", exclude_defaults=True, exclude={"title", "digits", "printed"})
        for column in protocol.columns
        if column.dataset == cell.dataset
    ]
    whole = {
        "networks": network,
        "dataset": dataset.model_dump(mode="json", exclude_defaults=True, exclude={"title", "setting", "steps"}),
        "setting": None
        if dataset.setting is None
        else dataset.setting.model_dump(mode="json", exclude_defaults=True, exclude={"networks"}),
        "plan": [protocol.recipe, protocol.plan, row.plan],
        "steps": None if row.members else protocol.steps_of(row, dataset),
        "scored": [protocol.folds, cell.weights, columns],
        "scale": dict(cell.scale),
        "values": dict(cell.values),
        "seed": cell.seed,
    }
    return sha256(dump_json(whole).encode()).hexdigest()[:16]


def define_network(protocol: Protocol, key: str, dataset: str) -> list[Any]:
    """Return the model and all arguments of a row on a dataset."""
    model, arguments = find_network(protocol.row(key), preset_of(protocol.dataset(dataset)), f"row {key!r}")
    return [model, {name: arguments[name] for name in sorted(arguments)}]


def read_records(folder: Path, dataset: str) -> dict[tuple[str, int], Recorded]:
    """Return the recorded cells of a dataset by row and seed; none if there are no files.

    Raises :class:`~deconvseg.errors.InputError` for files without the columns of a record.
    """
    cells, cases = (_read(path) for path in _files(folder, dataset))
    found: dict[tuple[str, int], Recorded] = {}
    for key in dict.fromkeys((line["row"], line["seed"]) for line in cells):
        trainings = tuple(line for line in cells if (line["row"], line["seed"]) == key)
        scored = tuple(line for line in cases if (line["row"], line["seed"]) == key)
        found[key[0], int(key[1])] = Recorded(trainings[0]["definition"], trainings, scored)
    return found


def restore(cells: Iterable[Cell], folder: Path) -> tuple[list[Cell], list[Cell]]:
    """Give cells that are recorded as they are defined now their ``cell.json``; return them, and those defined anew."""
    known: dict[str, dict[tuple[str, int], Recorded]] = {}
    restored, differing = [], []
    for cell in cells:
        if cell.dataset not in known:
            known[cell.dataset] = read_records(folder, cell.dataset)
        recorded = known[cell.dataset].get((cell.row, cell.seed))
        if recorded is None or cell.finished:
            continue
        if recorded.definition != define(cell):
            differing.append(cell)
            continue
        protocol = parse_protocol(cell.protocol, str(cell.protocol.get("key")))
        columns = [column.key for column in protocol.columns if column.dataset == cell.dataset]
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_text(cell.folder / CELL_FILE, dump_json(recorded.to_cell(cell, columns)) + "\n")
        restored.append(cell)
    return restored, differing


def record(cells: Iterable[Cell], costs: Costs, folder: Path) -> None:
    """Write the finished cells of a table into its records, which keep the lines of all others."""
    by_dataset: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.finished:
            by_dataset.setdefault(cell.dataset, []).append(cell)
    if not by_dataset:
        return
    with hold(folder, patience=_PATIENCE):
        for dataset, finished in by_dataset.items():
            _write(folder, dataset, finished, costs)


def merge_records(source: Path, target: Path) -> list[str]:
    """Add the records of one folder to those of another, where they replace those of the same row and seed.

    Return the names of the datasets. The folders are those of the records of one protocol.
    """
    names = sorted(path.name.removesuffix(_OF_CELLS) for path in source.glob(f"*{_OF_CELLS}"))
    with hold(target, patience=_PATIENCE):
        for name in names:
            _replace(target, name, *(_read(path) for path in _files(source, name)))
    return names


def _write(folder: Path, dataset: str, finished: Sequence[Cell], costs: Costs) -> None:
    trees = [(cell, dict(cell.read() or {})) for cell in finished]
    trainings = [line for cell, tree in trees for line in _trainings(cell, tree, costs)]
    cases = [line for cell, tree in trees for line in _cases(cell, tree)]
    _replace(folder, dataset, trainings, cases)


def _replace(folder: Path, dataset: str, trainings: Sequence[_Line], cases: Sequence[_Line]) -> None:
    """Write lines in the place of those of the same rows and seeds; all others are kept."""
    mine = {(line["row"], line["seed"]) for line in trainings}
    old = [
        [line for line in _read(path) if (line["row"], line["seed"]) not in mine] for path in _files(folder, dataset)
    ]
    trainings, cases = [*old[0], *trainings], [*old[1], *cases]
    names = [name for name in dict.fromkeys(key for line in cases for key in line) if name not in (*_KEYS, "case")]
    for path, text in zip(
        _files(folder, dataset), (_render(trainings, _CELLS), _render(cases, (*_KEYS, "case", *names))), strict=True
    ):
        write_text(path, text)


def _trainings(cell: Cell, tree: Mapping[str, Any], costs: Costs) -> list[dict[str, str]]:
    cost = costs.get(cell.row, {}).get(cell.dataset)
    made = {str(entry["fold"]): entry for entry in tree.get("made", ())}
    folds = dict.fromkeys(str(score["fold"]) for column in tree["columns"].values() for score in column["folds"])
    found = []
    for fold in folds:
        entry = {key: str(value) for key, value in made.get(fold, {}).items()}
        sizes = {} if cost is None else {"parameters": _text(cost.parameters), "kflops": _text(cost.kflops)}
        found.append(
            {"row": cell.row, "seed": str(cell.seed), **entry, "fold": fold, **sizes, "definition": define(cell)}
        )
    return found


def _cases(cell: Cell, tree: Mapping[str, Any]) -> list[dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key, column in tree["columns"].items():
        for score in column["cases"]:
            own = {"row": cell.row, "seed": str(cell.seed), "fold": str(score["fold"]), "case": score["case"]}
            line = found.setdefault((own["fold"], own["case"]), own)
            line[key.partition("/")[2]] = _text(score["value"])
    return list(found.values())


def _text(value: float | None) -> str:
    return "" if value is None else str(value if isinstance(value, int) else round(value, _DIGITS))


def _render(lines: Iterable[Mapping[str, str]], names: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        sorted(lines, key=lambda line: (line["row"], int(line["seed"]), int(line["fold"]), line.get("case", "")))
    )
    return file.getvalue()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    wanted = (*_KEYS, "definition") if path.name.endswith(_OF_CELLS) else (*_KEYS, "case")
    for number, line in enumerate(lines, start=2):
        if any(line.get(name) is None for name in wanted) or not (line["seed"].isdigit() and line["fold"].isdigit()):
            raise InputError(f"{path}: line {number} is not one of a record, which has the columns {', '.join(wanted)}")
        for name in set(line) - {None, *wanted} if "case" in wanted else _NUMBERS:
            if not _is_number(line.get(name) or "0"):
                raise InputError(f"{path}: line {number}: {name}: {line[name]!r} is not a number")
    return lines


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _files(folder: Path, dataset: str) -> tuple[Path, Path]:
    return folder / f"{dataset}{_OF_CELLS}", folder / f"{dataset}{_OF_CASES}"
