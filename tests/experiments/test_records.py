"""The definition of a recorded cell, files that are no records, and a cell of one fold."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from deconvseg.data import make_demo_dataset
from deconvseg.errors import InputError
from deconvseg.experiments import compare, read_recorded
from deconvseg.experiments.protocols.asking import Table, read_request
from deconvseg.experiments.protocols.records import define, merge_records, read_records
from deconvseg.options import ReproduceOptions
from deconvseg.progress import SILENT
from deconvseg.reporting.results.statistics import case_means, summarise

_SETTING: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 2,
    "spatial_dims": 2,
    "patch_size": [32, 32],
    "batch_size": 2,
    "plan": {"resize": [32, 32]},
    "networks": {"deconver": {"widths": [8, 8], "kernel_size": 3}},
}
_PROTOCOL: dict[str, Any] = {
    "key": "mine/layer",
    "title": "Two layers",
    "datasets": [{"name": "isic", "test": "folds", "test_share": 0.3, "steps": 3, "setting": _SETTING}],
    "rows": [
        {"key": "ndc", "title": "NDC", "model": "deconver"},
        {"key": "none", "title": "None", "model": "deconver", "arguments": {"iterations": 0}},
        {"key": "both", "title": "Both", "members": ["ndc", "none"]},
    ],
    "columns": [{"dataset": "isic", "metric": "dsc", "unit": "%"}, {"dataset": "isic", "metric": "hd95_defined"}],
    "folds": 1,
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data = make_demo_dataset(tmp_path_factory.mktemp("recorded") / "isic", like="isic", cases=6).parent
    return {"data": data, "incomplete": True, "device": "cpu", "workers": 0}


def _ask(made: dict[str, Any], tmp_path: Path, **changes: Any) -> Table:
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(_PROTOCOL | changes))
    return read_request(ReproduceOptions(str(file), tmp_path / "other", **made), SILENT, own=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "best"},
        {"plan": {"recipe.learning_rate": 1e-4}},
        {"datasets": [_PROTOCOL["datasets"][0] | {"steps": 4}]},
        {"datasets": [_PROTOCOL["datasets"][0] | {"setting": _SETTING | {"batch_size": 4}}]},
        {"rows": [_PROTOCOL["rows"][0] | {"plan": {"batch_size": 4}}]},
        {"columns": [{"dataset": "isic", "metric": "dsc"}]},
        {"seeds": [2]},
    ],
)
def test_whatever_changes_a_score_changes_the_definition(
    made: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    plain = define(_ask(made, tmp_path).cells()[0])
    assert define(_ask(made, tmp_path, **changes).cells()[0]) != plain
    # Titles, notes, other rows and other networks of the setting are not the cell's.
    networks = _SETTING["networks"] | {"unet": {"widths": [8, 8]}}
    other = [_PROTOCOL["datasets"][0] | {"setting": _SETTING | {"networks": networks}, "title": "ISIC"}]
    assert define(_ask(made, tmp_path, datasets=other, title="T", rows=_PROTOCOL["rows"][:1]).cells()[0]) == plain


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "isic-cells.csv").write_text("row,seed\nndc,0\n")
    with pytest.raises(InputError, match=r"isic-cells.csv: line 2 is not one of a record, which has the columns row"):
        read_records(tmp_path, "isic")
    assert read_records(tmp_path, "busi") == {}
    (tmp_path / "isic-cells.csv").write_text("row,seed,fold,definition\nndc,0,0,aa\n")
    (tmp_path / "isic-cases.csv").write_text("row,seed,fold,case,dsc\nndc,0,0,a,\nndc,0,0,b,good\n")
    with pytest.raises(InputError, match=r"isic-cases.csv: line 3: dsc: 'good' is not a number"):
        read_records(tmp_path, "isic")


@pytest.mark.slow
def test_a_cell_of_one_fold_is_one_training(made: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(_PROTOCOL | {"rows": _PROTOCOL["rows"][1:2], "seeds": [0]}))
    result = compare(file, tmp_path / "table", **made, records=tmp_path / "records", jobs=1)
    (row,) = result.rows
    assert [(fold.fold, fold.seed) for fold in row.cells[0].folds] == [(0, 0)]
    with (tmp_path / "records" / "isic-cells.csv").open(newline="") as lines:
        (line,) = csv.DictReader(lines)
    assert (line["steps"], line["row"]) == ("3", "none")
    assert not (tmp_path / "table" / "cells" / "isic-none-seed0" / "crossval" / "test" / "average").exists()


def _write(folder: Path, table: Table, scores: dict[str, list[list[float | None]]]) -> None:
    """Write records with the scores of two cases by row and seed."""
    folder.mkdir()
    cells = ["row,seed,fold,steps,parameters,kflops,definition"]
    cases = ["row,seed,fold,case,dsc"]
    for cell in table.cells():
        if cell.row in scores and cell.seed < len(scores[cell.row]):
            cells.append(f"{cell.row},{cell.seed},0,3,1000,2.5,{define(cell)}")
            for number, value in enumerate(scores[cell.row][cell.seed]):
                cases.append(f"{cell.row},{cell.seed},0,case{number},{'' if value is None else value}")
    (folder / "isic-cells.csv").write_text("\n".join(cells) + "\n")
    (folder / "isic-cases.csv").write_text("\n".join(cases) + "\n")


def test_a_table_is_read_from_its_records_alone(made: dict[str, Any], tmp_path: Path) -> None:
    table = _ask(made, tmp_path, rows=_PROTOCOL["rows"][:2], columns=_PROTOCOL["columns"][:1], reference="ndc")
    file, folder = tmp_path / "changed.json", tmp_path / "records"
    _write(folder, table, {"ndc": [[80.0, 60.0], [90.0, None]], "none": [[82.0, 64.0]]})
    found = read_recorded(file, folder)
    assert [(row.costs["isic"].parameters, row.costs["isic"].kflops) for row in found.rows] == [(1000, 2.5)] * 2
    whole, part = (found.cell(key, "isic/dsc") for key in ("ndc", "none"))
    assert whole.status == "done"
    # Means of the seeds, and of the cases over seeds.
    assert [fold.value for fold in whole.folds] == [70.0, 90.0]
    assert summarise(whole).sd == pytest.approx(200**0.5)
    assert case_means(whole) == {"case0": 85.0, "case1": 60.0}
    assert (part.status, part.reason) == ("not run", "seed 1 is not recorded")
    # A cell that is defined in another way is none of this table.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"plan": {"recipe.averaging": 0.9}}))
    assert read_recorded(file, folder).cell("ndc", "isic/dsc").reason == "seeds 0, 1 are not recorded"


def test_records_of_two_machines_are_merged(made: dict[str, Any], tmp_path: Path) -> None:
    table = _ask(made, tmp_path, rows=_PROTOCOL["rows"][:2], columns=_PROTOCOL["columns"][:1])
    here, there = tmp_path / "here", tmp_path / "there"
    _write(here, table, {"ndc": [[80.0, 60.0], [90.0, None]]})
    _write(there, table, {"ndc": [[70.0, 50.0]], "none": [[82.0, 64.0], [81.0, 63.0]]})
    assert merge_records(there, here) == ["isic"]
    found = read_records(here, "isic")
    assert list(found) == [("ndc", 0), ("ndc", 1), ("none", 0), ("none", 1)]
    values = {key: [case["value"] for case in one.scores("isic/dsc")["cases"]] for key, one in found.items()}
    assert values[("ndc", 0)] == [70.0, 50.0]
    assert values[("ndc", 1)] == [90.0, None]
    assert values[("none", 1)] == [81.0, 63.0]
    before = [path.read_bytes() for path in sorted(here.iterdir())]
    assert merge_records(there, here) == ["isic"]
    assert [path.read_bytes() for path in sorted(here.iterdir())] == before
    assert merge_records(tmp_path / "nowhere", here) == []
