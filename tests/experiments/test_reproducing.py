"""A whole table at the smallest scale: its ensemble, its figures, a killed worker, and what resuming keeps."""

import csv
import json
import os
import signal
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deconvseg import predict
from deconvseg.catalog import PUBLISHED_SCORES
from deconvseg.data import make_demo_dataset, read_label_map
from deconvseg.errors import InputError
from deconvseg.experiments import (
    Executor,
    Outcome,
    Processes,
    Protocol,
    Serial,
    Task,
    compare,
    read_protocol,
    reproduce,
)
from deconvseg.progress import SILENT, Console
from deconvseg.reporting.results import TableResult, read_results

_COLUMN = "isic/dsc"
_PROTOCOL: dict[str, Any] = {
    "key": "mine/table",
    "title": "Two networks and their mean",
    "datasets": [{"name": "isic", "test": "folds", "test_share": 0.3}],
    "rows": [
        {"key": "linear", "title": "Linear", "variant": "UNet, linear"},
        {"key": "dtc", "title": "DTC", "variant": "UNet, linear, with DTC"},
        {"key": "both", "title": "Both", "members": ["linear", "dtc"]},
    ],
    "columns": [{"dataset": "isic", "metric": "dsc", "unit": "%"}],
    "folds": 2,
    "figures": [
        {"name": "Cost", "shows": "cost"},
        {"name": "Errors", "shows": "errors", "crops": 1},
        {"name": "Classes", "shows": "classes", "rows": ["linear", "dtc"], "cases": 2},
        {"name": "Masks", "shows": "masks", "rows": ["dtc", "both"]},
        {"name": "Where it samples", "shows": "sampling"},
    ],
}


class _KillsDTC(Processes):
    """Two processes, of which that of the row ``dtc`` is killed as soon as it trains."""

    started: dict[str, subprocess.Popen[str]]

    def _start(self, task: Task, gpu: str | None) -> subprocess.Popen[str]:
        self.started = {**getattr(self, "started", {}), task.key: super()._start(task, gpu)}
        return self.started[task.key]

    def say(self, text: str) -> None:
        if text.startswith("dtc, isic: fold 0: training "):
            os.kill(self.started["dtc, isic"].pid, signal.SIGKILL)

    track = SILENT.track


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is asked: a protocol in a file, four cases to divide, and six steps."""
    root = tmp_path_factory.mktemp("tables")
    (root / "mine.json").write_text(json.dumps(_PROTOCOL))
    data = make_demo_dataset(root / "isic", like="isic", cases=6).parent
    sizes = {"scale": 0.001, "steps": 6, "cases": 4, "narrow": 8, "patch_size": 32, "batch_size": 2}
    values = {"recipe.learning_rate": 0.01}
    return {"protocol": root / "mine.json", "data": data, **sizes, "values": values, "device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def whole(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table made without an interruption, one cell after the other."""
    output = tmp_path_factory.mktemp("whole") / "table"
    compare(output=output, **made, executor=Serial())
    return output


def _scores(table: TableResult) -> dict[str, Any]:
    return {row.key: [cell.model_dump() for cell in row.cells] for row in table.rows}


def _times(folder: Path, pattern: str) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.glob(pattern)}


def test_an_ensemble_is_the_mean_of_the_probabilities_of_its_members(
    whole: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    result = read_results(whole)
    assert {row.key: row.cells[0].status for row in result.rows} == dict.fromkeys(("linear", "dtc", "both"), "done")
    cells = {key: whole / "cells" / f"isic-{key}-seed0" for key in ("linear", "dtc", "both")}
    assert not (cells["both"] / "crossval").exists()
    shown = json.loads((cells["both"] / "cell.json").read_text())["shown"]
    assert list(shown) == ["0", "1"]
    seen = set()
    for fold, part in shown.items():
        runs = [cells[key] / "crossval" / f"fold_{fold}" for key in ("linear", "dtc")]
        where = whole / "splits" / "isic.json"
        predict(made["data"], runs, tmp_path / fold, splits=where, split="test", fold=int(fold), postprocess=False)
        for case, file in part["masks"].items():
            (mask,) = (tmp_path / fold).glob(f"{case}.*")
            pixels = read_label_map(cells["both"] / file).pixels
            np.testing.assert_array_equal(pixels, read_label_map(mask).pixels)
            seen |= set(np.unique(pixels))
    assert len(seen) == 2
    costs = {row.key: row.costs["isic"].parameters for row in result.rows}
    assert costs["both"] == costs["linear"] + costs["dtc"]


def test_scores_against_cost_are_drawn_once(whole: Path) -> None:
    page = (whole / "table.html").read_text(encoding="utf-8")
    assert '"figure-1"' in page
    assert "Scores against cost" not in page


def test_everything_that_differs_from_the_paper_is_listed(whole: Path) -> None:
    told = {entry.what: entry.here for entry in read_results(whole).scaled}
    assert told["steps of a training"] == "6 at most"
    assert told["patch, isic"] == "32 × 32"
    assert told["images, isic"] == "generated by 'deconvseg data demo'"
    assert told["recipe.learning_rate"] == "0.01"


@pytest.mark.slow
def test_a_killed_worker_fails_its_cell_and_resume_gives_the_uninterrupted_table(
    whole: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "table"
    executor = _KillsDTC(jobs=2, threads=2)
    first = compare(output=output, **made, executor=executor, console=executor)
    assert {row.key: row.cells[0].status for row in first.rows} == {"linear": "done", "dtc": "failed", "both": "failed"}
    assert "SIGKILL" in first.cell("dtc", _COLUMN).reason
    assert first.cell("both", _COLUMN).reason == "its members dtc are not finished"
    reasons = {figure.name: figure.reason for figure in first.figures if not figure.file}
    assert reasons == {
        "Masks": "no row to show: without DTC, Both (not finished)",
        "Where it samples": "no row to show: without Linear, Both (no learned positions); without DTC (not finished)",
    }
    assert {figure.note for figure in first.figures if figure.name == "Errors"} == {"without DTC, Both (not finished)"}
    kept = _times(output, "cells/isic-linear-*/**/*")
    last = compare(output=output, **made, resume=True, jobs=1)
    assert _times(output, "cells/isic-linear-*/**/*") == kept
    assert _scores(last) == _scores(read_results(whole))
    assert all(figure.file and not figure.note for figure in last.figures if figure.name != "Where it samples")


class _TrainsNothing(Executor):
    """Lists the tasks that it was asked for, and runs none."""

    slots = 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        for task in tasks:
            self.asked.append(task.key)
            yield Outcome(task, error=InputError("not now"))


@pytest.fixture(scope="module")
def records(whole: Path, made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of the finished table."""
    folder = tmp_path_factory.mktemp("records")
    compare(output=whole, **made, resume=True, records=folder)
    return folder


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_record_has_every_training_and_every_score(whole: Path, records: Path) -> None:
    rows = {row.key: row for row in read_results(whole).rows}
    cells = _read(records / "isic-cells.csv")
    places = [(line["row"], line["seed"], line["fold"]) for line in cells]
    assert places == [(row, "0", fold) for row in ("both", "dtc", "linear") for fold in "01"]
    for line in cells:
        cost = rows[line["row"]].costs["isic"]
        assert (int(line["parameters"]), float(line["kflops"])) == (cost.parameters, round(cost.kflops, 4))
        # A mean of others has no training of its own.
        assert line["steps"] == ("" if line["row"] == "both" else "6")
        assert bool(line["processor"]) == bool(line["version"]) == (line["row"] != "both")
    scores = {
        (key, str(score.fold), score.case): score.value for key, row in rows.items() for score in row.cells[0].cases
    }
    written = {(line["row"], line["fold"], line["case"]): line["dsc"] for line in _read(records / "isic-cases.csv")}
    assert written == {place: str(round(value, 4)) for place, value in scores.items()}


def test_recorded_cells_are_not_trained_again(whole: Path, records: Path, made: dict[str, Any], tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in records.glob("*.csv")}
    executor = _TrainsNothing()
    again = compare(output=tmp_path / "elsewhere", records=records, **made, executor=executor)
    assert executor.asked == []
    assert {file.name: file.read_bytes() for file in records.glob("*.csv")} == before
    for row in read_results(whole).rows:
        other = again.cell(row.key, _COLUMN)
        assert other is not None
        assert other.status == "done"
        for mine, theirs in zip(row.cells[0].folds, other.folds, strict=True):
            assert (mine.fold, mine.seed) == (theirs.fold, theirs.seed)
            assert theirs.value == pytest.approx(mine.value, abs=1e-4)
    # There are no masks and models of these cells here.
    assert {figure.name: bool(figure.file) for figure in again.figures} == {
        "Cost": True, "Errors": False, "Classes": False, "Masks": False, "Where it samples": False,
    }  # fmt: skip
    assert all(figure.file or figure.reason for figure in again.figures)


def test_the_rest_of_an_interrupted_table_is_trained(records: Path, made: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for file in records.glob("*.csv"):
        head, *lines = file.read_text().splitlines(keepends=True)
        (folder / file.name).write_text("".join([head, *(line for line in lines if line.startswith("linear,"))]))
    executor = _TrainsNothing()
    result = compare(output=tmp_path / "table", records=folder, **made, executor=executor)
    assert executor.asked == ["dtc, isic"]
    assert result.cell("linear", _COLUMN).status == "done"
    assert result.cell("both", _COLUMN).reason == "its members dtc are not finished"
    for file in records.glob("*.csv"):
        head, *lines = file.read_text().splitlines(keepends=True)
        (folder / file.name).write_text("".join([head, *(line for line in lines if not line.startswith("both,"))]))
    result = compare(output=tmp_path / "table", records=folder, **made, executor=executor, resume=True)
    assert executor.asked == ["dtc, isic"]
    assert result.cell("both", _COLUMN).reason == "its members linear, dtc were trained elsewhere"


def test_a_cell_that_is_defined_anew_is_trained_again(records: Path, made: dict[str, Any], tmp_path: Path) -> None:
    changed = tmp_path / "changed.json"
    rows = [_PROTOCOL["rows"][0] | {"title": "Another"}, _PROTOCOL["rows"][1] | {"plan": {"recipe.averaging": 0.9}}]
    changed.write_text(json.dumps(_PROTOCOL | {"rows": rows, "notes": ["Another note."], "figures": []}))
    executor = _TrainsNothing()
    compare(output=tmp_path / "table", records=records, **made | {"protocol": changed}, executor=executor)
    assert executor.asked == ["dtc, isic"]


def test_figures_are_written_linked_and_shown(whole: Path) -> None:
    result = read_results(whole)
    page, text = (whole / "table.html").read_text(), (whole / "table.md").read_text()
    files = {figure.name: figure.file for figure in result.figures}
    assert files == {
        "Cost": "figures/cost.png",
        "Errors": "figures/errors.png",
        "Classes": "figures/classes.png",
        "Masks": "figures/masks.png",
        "Where it samples": "figures/where-it-samples.png",
    }
    for name, file in files.items():
        with Image.open(whole / file) as picture:
            assert picture.format == "PNG"
        assert f"]({file})" in text
        assert f">{name}</h2>" in page
    assert page.count("data:image/png;base64,") == len(files)
    notes = {figure.name: figure.note for figure in result.figures}
    assert notes["Where it samples"] == "without Linear, Both (no learned positions)"


def test_resume_draws_only_what_changed(whole: Path, made: dict[str, Any], tmp_path: Path) -> None:
    before = _times(whole, "figures/*.png")
    cell = whole / "cells" / "isic-both-seed0" / "cell.json"
    text = cell.read_text()
    tree = json.loads(text)
    compare(output=whole, **made, resume=True)
    assert _times(whole, "figures/*.png") == before
    tree["columns"][_COLUMN]["cases"][0]["value"] += 1.0
    cell.write_text(json.dumps(tree))
    compare(output=whole, **made, resume=True)
    after = _times(whole, "figures/*.png")
    changed = {name for name in before if before[name] != after[name]}
    # The figures of the classes and of the positions have no row of the changed cell.
    assert changed == {"figures/errors.png", "figures/masks.png", "figures/cost.png"}
    for part in tree["shown"].values():
        part["masks"] = {name: f"gone/{file}" for name, file in part["masks"].items()}
    cell.write_text(json.dumps(tree))
    result = compare(output=whole, **made, resume=True)
    reasons = {figure.name: figure.reason for figure in result.figures if not figure.file}
    assert set(reasons) == {"Errors", "Masks"}
    assert all("gone" in reason and "\n" not in reason for reason in reasons.values())
    assert not (whole / "figures" / "errors.png").exists()
    cell.write_text(text)


def test_the_published_schema_is_that_of_the_model() -> None:
    import deconvseg.catalog

    published = json.loads((Path(deconvseg.catalog.__file__).parent / "protocol.schema.json").read_text())
    assert published == Protocol.model_json_schema()


def test_names_are_for_reproduce_and_files_for_compare(made: dict[str, Any], tmp_path: Path) -> None:
    file = made["protocol"]
    with pytest.raises(InputError, match=f"is a file, not a table of the papers: run 'deconvseg compare {file}'"):
        reproduce(file, tmp_path / "table")
    with pytest.raises(InputError, match="make it by 'deconvseg reproduce dtc/table-7', or copy its protocol"):
        compare("dtc/table-7", tmp_path / "table")
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("key", list(PUBLISHED_SCORES))
def test_a_printed_protocol_of_the_papers_is_one_to_compare_by(key: str, tmp_path: Path) -> None:
    file = tmp_path / "copy.json"
    file.write_text(json.dumps(read_protocol(key).model_dump(mode="json", exclude_defaults=True)))
    assert read_protocol(file) == read_protocol(key)
