"""What is asked of a table: the protocol with what was changed, the rows, and the datasets found on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from deconvseg.catalog import CARDS
from deconvseg.data import Dataset, list_names, read_json_object, report_problems
from deconvseg.errors import InputError, check_choice
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.finding import find_datasets
from deconvseg.experiments.protocols.reading import check_origin, check_protocol, parse_protocol, read_protocol
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol
from deconvseg.options import ReproduceOptions
from deconvseg.progress import Console
from deconvseg.reporting.results import RESULT_FILE
from deconvseg.system import write_text
from deconvseg.text import dump_json, number_of

_RECORD = "protocol.json"
_CELLS, _SPLITS = "cells", "splits"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that was asked for: its protocol, the rows and datasets of it, their folds and seeds, and its folder.

    ``given`` is the protocol before the options changed its weights or its recipe.
    """

    asked: ReproduceOptions
    given: Protocol
    protocol: Protocol
    scale: Scale
    rows: tuple[str, ...]
    data: Mapping[str, Dataset]
    folds: int
    seeds: tuple[int, ...]
    output: Path

    @property
    def record(self) -> dict[str, Any]:
        """What a table must have in common with the one that it continues."""
        return {
            "protocol": self.protocol.model_dump(mode="json"),
            "scale": asdict(self.scale),
            "folds": self.folds,
            "values": dict(self.asked.values or {}),
        }

    @property
    def left_out(self) -> dict[str, str]:
        """The reasons for rows and datasets of the protocol that were not asked for, by their key."""
        rows = {row.key: "left out (`rows`)" for row in self.protocol.rows if row.key not in self.rows}
        names = [dataset.name for dataset in self.protocol.datasets]
        return rows | {name: "left out (`datasets`)" for name in names if name not in self.data}

    def splits(self, dataset: str) -> Path:
        """Return the file with the folds of a dataset."""
        return self.output / _SPLITS / f"{dataset}.json"

    def check_output(self) -> None:
        """Raise an error for a folder with another table, or one to be continued without ``resume``."""
        output, file = self.output, self.output / _RECORD
        if not file.is_file():
            if output.is_dir() and any(path.name != ".lock" for path in output.iterdir()):
                raise InputError(f"{output}: is not empty and holds no table; choose another folder (`output`)")
            return
        if not self.asked.resume:
            # A table that was ended before its first cell is started again.
            if (output / RESULT_FILE).is_file():
                raise InputError(
                    f"{output}: holds a table already; continue it with `resume=True`, or choose another folder"
                )
            return
        known, record = read_json_object(file), self.record
        # The record of an earlier version lacks the keys that protocols have had since.
        known["protocol"] = parse_protocol(known.get("protocol"), str(file)).model_dump(mode="json")
        if changed := [key for key in record if known.get(key) != record[key]]:
            raise InputError(
                f"{output}: was started with another {list_names(changed)}; continue it with the same, or choose "
                "another folder (`output`)"
            )

    def write_record(self) -> None:
        """Write what :meth:`check_output` compares."""
        write_text(self.output / _RECORD, dump_json(self.record) + "\n")

    def cells(self) -> list[Cell]:
        """Return the cells: for each dataset its rows, and for each row its seeds."""
        found = []
        for name, dataset in self.data.items():
            for key in self.rows:
                row = self.protocol.row(key)
                if row.datasets is None or name in row.datasets:
                    cells = [self._cell(name, dataset, key, seed) for seed in self.seeds]
                    found += [self._join(cell, row.members) for cell in cells] if row.members else cells
        return found

    def _cell(self, name: str, dataset: Dataset, row: str, seed: int) -> Cell:
        cache = self.asked.cache
        return Cell(
            protocol=self.protocol.model_dump(mode="json"),
            row=row,
            dataset=name,
            seed=seed,
            root=str(dataset.root.absolute()),
            splits=str(self.splits(name).absolute()),
            output=self._folder(name, row, seed),
            scale=asdict(self.scale),
            values=dict(self.asked.values or {}),
            weights=self.protocol.weights,
            device=self.asked.device,
            workers=self.asked.workers,
            cache=None if cache is None else str(Path(cache).absolute()),
        )

    def _join(self, cell: Cell, members: Sequence[str]) -> Cell:
        return replace(cell, members={key: self._folder(cell.dataset, key, cell.seed) for key in members})

    def _folder(self, dataset: str, row: str, seed: int) -> str:
        name = re.sub(r"[^\w.+-]", "-", f"{dataset}-{row}-seed{seed}")
        return str((self.output / _CELLS / name).absolute())


def read_request(asked: ReproduceOptions, console: Console, *, own: bool) -> Table:
    """Return the table that the options ask for, by a protocol of the package or, with ``own``, of a file.

    Raises :class:`~deconvseg.errors.InputError` for everything that is unknown or missing.
    """
    source = str(asked.protocol)
    check_origin(source, own=own)
    given = read_protocol(source)
    # The networks of a table that trains none are counted as published.
    scale = _scale(asked) if given.trains else Scale()
    rows = _choose(asked.rows, [row.key for row in given.rows], "`rows`: row")
    names = _choose(asked.datasets, [dataset.name for dataset in given.datasets], "`datasets`: dataset")
    changed = {"weights": asked.weights, "recipe": asked.recipe}
    protocol = given.model_copy(update={key: value for key, value in changed.items() if value is not None})
    check_protocol(protocol, source)
    merged = [dataset.name for dataset in protocol.datasets if dataset.foreground]
    data: dict[str, Dataset] = find_datasets(asked.places, names, merged) if protocol.trains else {}
    for name, dataset in data.items():
        console.say(f"{name}: {dataset.root} ({dataset.layout}, {number_of(len(dataset.cases), 'case')})")
        _check_dataset(name, dataset, partial=asked.incomplete or scale.most_cases is not None)
    return Table(
        asked=asked,
        given=given,
        protocol=protocol,
        scale=scale,
        rows=rows,
        data=data,
        folds=scale.folds(asked.folds if protocol.trains else None, protocol.folds),
        seeds=_take_seeds(protocol.seeds, asked.seeds or len(protocol.seeds)),
        output=Path(asked.output),
    )


def _scale(asked: ReproduceOptions) -> Scale:
    return Scale(
        share=asked.scale,
        steps=asked.steps,
        narrow=asked.narrow,
        patch=asked.patch_size,
        cases=asked.cases,
        seconds=asked.max_seconds,
        batch=asked.batch_size,
    )


def _choose(asked: str | Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names asked for, in the order of the protocol; all by default."""
    for name in asked or ():
        check_choice(name, known, what)
    return tuple(name for name in known if not asked or name in asked)


def _take_seeds(seeds: Sequence[int], number: int) -> tuple[int, ...]:
    """Return the first of the protocol's seeds, and the numbers after them if more are asked for."""
    return tuple(islice((*seeds, *range(max(seeds) + 1, max(seeds) + 1 + number)), number))


def _check_dataset(name: str, data: Dataset, *, partial: bool) -> None:
    """Raise an error for a dataset with unusable cases, or with fewer than published unless a part is asked for."""
    labelled = data.labelled_names
    report_problems(data, labelled)
    card = CARDS.get(name)
    stated = 0 if card is None else sum(card.counts[part] for part in card.masks)
    if len(labelled) < stated and not partial:
        raise InputError(
            f"{name}: {data.root} has {len(labelled)} of the {stated} cases with masks that its publisher states; "
            f"complete it ('deconvseg data card {name}'), or train on what is there (`incomplete`)"
        )
    if not labelled:
        told = f"; see 'deconvseg data card {name}'" if card is not None else ""
        raise InputError(f"{name}: {data.root} has no case with a mask{told}")
