"""What figures show of a table's cells: held-out cases with the masks of several networks, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data import Dataset, read_label_map
from deconvseg.errors import DeconvsegError
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.schema import Protocol
from deconvseg.planning import Plan
from deconvseg.reporting import NetworkCase
from deconvseg.reporting.picking import busiest_slice
from deconvseg.runs import Run

# The overlap in the corner of a mask, and by which cases are chosen.
_METRIC = "dsc"


@dataclass(frozen=True)
class Shown:
    """A held-out case of a fold, and the score of each network on it (none if the table has no Dice)."""

    case: str
    fold: str
    scores: Mapping[str, float]


def choose_shown(protocol: Protocol, dataset: str, cells: Mapping[str, Cell], most: int) -> list[Shown]:
    """Return the cases that all cells (by title of their network) scored, those with the widest range of Dice first."""
    records = {title: cell.read() or {} for title, cell in cells.items()}
    columns = [column for column in protocol.columns if (column.dataset, column.metric) == (dataset, _METRIC)]
    found: dict[str, Shown] = {}
    for fold, case in _common([record.get("shown", {}) for record in records.values()]):
        scores: dict[str, float] = {}
        for title, record in records.items():
            values = [
                entry["value"]
                for column in columns
                for entry in record["columns"][column.key]["cases"]
                if (entry["case"], str(entry["fold"])) == (case, fold) and entry["value"] is not None
            ]
            if values:
                scores[title] = float(np.mean(values))
        found.setdefault(case, Shown(case, fold, scores))
    return sorted(found.values(), key=lambda one: (-_range(one), one.case))[:most]


def _common(shown: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return fold and name of the cases of which all have a mask."""
    sets = [{(fold, case) for fold, part in each.items() for case in part["masks"]} for each in shown]
    return sorted(set.intersection(*sets)) if sets else []


def _range(shown: Shown) -> float:
    values = list(shown.scores.values())
    return max(values) - min(values) if values else 0.0


def run_of(cell: Cell, fold: str) -> Path:
    """Return the run of a fold of a cell."""
    record = cell.read() or {}
    return cell.folder / str(record["shown"][fold]["run"])


def read_case(data: Dataset, cells: Mapping[str, Cell], shown: Shown, crops: int) -> tuple[NetworkCase, Plan]:
    """Return a case with its image, truth and masks as class ids, and the plan that names the classes."""
    plan = Run.open(run_of(next(iter(cells.values())), shown.fold)).plan
    encoding = plan.labels.to_encoding()
    image, truth = data.load(data.case(shown.case))
    if truth is None:
        raise DeconvsegError(f"{shown.case}: has no mask in {data.root}")
    masks = {}
    for title, cell in cells.items():
        file = cell.folder / (cell.read() or {})["shown"][shown.fold]["masks"][shown.case]
        masks[title] = encoding.encode(read_label_map(file).canonical().pixels, where=str(file))
    turned = truth.canonical()
    ids = encoding.encode(turned.pixels, where=str(data.case(shown.case).label), white=turned.white)
    if encoding.ignore_id is not None:
        masks = {title: np.where(ids == encoding.ignore_id, 0, mask) for title, mask in masks.items()}
        ids = np.where(ids == encoding.ignore_id, 0, ids)
    case = NetworkCase(
        *(shown.case, image.canonical().pixels, ids, masks, turned.geometry.spacing),
        scores=dict(shown.scores),
        # Masks of bad networks differ most where there is nothing to find.
        slice=busiest_slice(ids, ids) if ids.ndim == 3 and ids.any() else None,
    )
    return case.with_crops(crops), plan
