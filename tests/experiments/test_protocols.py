"""Protocols of tables: their names, their scale, their cells and what is said of bad input."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import torch

from deconvseg.catalog import PRESETS, PUBLISHED_SCORES
from deconvseg.data import make_demo_dataset
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import evaluate
from deconvseg.experiments import (
    Executor,
    Outcome,
    Protocol,
    Serial,
    Task,
    list_protocols,
    read_protocol,
    reproduce,
)
from deconvseg.experiments.protocols.asking import Table, read_request
from deconvseg.experiments.protocols.describing import describe_choices
from deconvseg.experiments.protocols.reading import find_network, preset_name
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.models import create_model
from deconvseg.options import ReproduceOptions
from deconvseg.planning import Recipe
from deconvseg.progress import SILENT, Console
from deconvseg.reporting.results import TableResult, read_results

_ROWS = ["deconver-r1", "deconver-r4"]


@pytest.fixture(scope="module")
def strokes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_dataset(tmp_path_factory.mktemp("data") / "strokes", like="isles22", cases=6).parent


def _copy(path: Path, key: str = "deconver/table-4", **changes: object) -> Path:
    tree = read_protocol(key).model_dump(mode="json", exclude_defaults=True)
    tree = {name: value for name, value in tree.items() if name != "reference"}
    path.write_text(json.dumps(tree | changes))
    return path


@pytest.mark.parametrize("key", list(PUBLISHED_SCORES))
def test_every_published_table_has_a_protocol_with_its_rows_and_columns(key: str) -> None:
    protocol, table = read_protocol(key), PUBLISHED_SCORES[key]
    assert [row.key for row in protocol.rows] == [row.key for row in table.rows]
    assert [column.key for column in protocol.columns] == [column.key for column in table.columns]
    for row in table.rows:
        assert set(row.scores) <= {column.key for column in protocol.columns_of(protocol.row(row.key))}


def test_the_protocols_are_those_of_the_published_tables() -> None:
    assert set(list_protocols()) == set(PUBLISHED_SCORES)


def test_every_figure_of_results_is_named_once() -> None:
    figures = [figure.name for key in list_protocols() for figure in read_protocol(key).figures]
    wanted = [f"Deconver, Fig. {number}" for number in range(3, 7)] + [f"DTC, Fig. {number}" for number in range(4, 10)]
    assert sorted(figures) == sorted(wanted)


def test_a_protocol_survives_json() -> None:
    for key in list_protocols():
        protocol = read_protocol(key)
        assert Protocol.model_validate_json(protocol.model_dump_json()) == protocol


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": [{"key": "a", "title": "A", "variant": "Deconver, R = 3"}]}, "did you mean 'Deconver, R = 2'"),
        ({"rows": [{"key": "a", "title": "A", "model": "deconvr"}]}, "did you mean 'deconver'"),
        (
            {"rows": [{"key": "a", "title": "A", "model": "deconver", "arguments": {"ratoi": 2}}]},
            "did you mean 'ratio'",
        ),
        ({"columns": [{"dataset": "isles22", "metric": "dcs"}]}, "metric of column .* did you mean 'dsc'"),
        ({"columns": [{"dataset": "isles", "metric": "dsc"}]}, "did you mean 'isles22'"),
        ({"recipe": "papr"}, "recipe 'papr' is unknown: did you mean 'paper'"),
        ({"datasets": [{"name": "isles21"}], "columns": [{"dataset": "isles21", "metric": "dsc"}]}, "'isles22'"),
        ({"seed": [0]}, "seed: is not a key of a protocol: did you mean 'seeds'"),
    ],
)
def test_an_unknown_name_is_answered_by_the_nearest(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_protocol(_copy(tmp_path / "mine.json", **changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_table_is_answered_by_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'dtc/table-1'"):
        read_protocol("dtc/table1")


def test_missing_data_is_named_before_anything_is_written(tmp_path: Path, strokes: Path) -> None:
    output = tmp_path / "table"
    with pytest.raises(InputError, match=r"glas, fives: not in .* 'deconvseg data card glas'"):
        reproduce("deconver/table-3", output, data=strokes)
    # No card describes the data of this table.
    with pytest.raises(InputError, match=r"isles26: not in .*; give its folder by name"):
        reproduce("isles26/table-1", output, data=strokes)
    assert not output.exists()


def test_a_dataset_with_a_part_of_its_files_is_refused_for_a_whole_table(tmp_path: Path, strokes: Path) -> None:
    with pytest.raises(InputError, match=r"has 6 of the 250 cases .*'deconvseg data card isles22'"):
        reproduce("deconver/table-4", tmp_path / "table", data=strokes)
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_network_of_a_rehearsal_is_an_eighth_as_wide_and_takes_its_patch(preset: str) -> None:
    scale = Scale(share=0.01)
    networks = {}
    for key in list_protocols():
        protocol = read_protocol(key)
        for dataset in protocol.datasets:
            for row in protocol.rows:
                if preset_name(dataset) != preset or row.members or dataset.name not in (row.datasets or dataset.name):
                    continue
                model, arguments = find_network(row, PRESETS[preset], row.key)
                # Several tables have the same networks.
                networks[model, json.dumps(arguments, sort_keys=True)] = arguments
    patch = scale.size(PRESETS[preset].patch_size)
    for (model, _), arguments in networks.items():
        with torch.device("meta"):
            network = create_model(model, **scale.network(model, arguments))
            whole = create_model(model, **arguments)
        assert all(size % step == 0 for size, step in zip(patch, network.size_multiple, strict=True))
        counts = [sum(part.numel() for part in one.parameters()) for one in (network, whole)]
        assert counts[0] < counts[1] / 8
    assert networks


@pytest.mark.parametrize(("share", "steps"), [(0.5, 50), (1e-6, 10), (0.002, 20)])
def test_a_rehearsal_takes_10_to_50_steps(share: float, steps: int) -> None:
    recipe = Scale(share=share).recipe(Recipe(epochs=100, steps_per_epoch=100), 40, 4)
    assert recipe.epochs * recipe.count_steps(40, 4) == steps


def test_the_whole_scale_changes_nothing() -> None:
    recipe, arguments = Recipe(), {"in_channels": 1, "out_channels": 1, "spatial_dims": 2}
    assert Scale().recipe(recipe, 40, 4) == recipe
    assert Scale().network("unet", arguments) == arguments
    assert Scale().size((256, 256)) == (256, 256)
    assert (Scale().most_cases, Scale().folds(None, 5)) == (None, 5)


def test_seeds_are_those_of_the_protocol_and_another_recipe_is_stated(tmp_path: Path, strokes: Path) -> None:
    def ask(**options: object) -> Table:
        asked = ReproduceOptions(str(file), tmp_path / "table", data=strokes, incomplete=True, **options)
        return read_request(asked, SILENT, own=True)

    file = _copy(tmp_path / "mine.json", seeds=[3, 7])
    plain = ask()
    assert plain.seeds == (3, 7)
    assert {cell.seed for cell in plain.cells()} == {3, 7}
    assert describe_choices(plain) == describe_choices(ask(recipe="paper", weights="final")) == []
    changed = ask(seeds=3, recipe="default", weights="best")
    assert changed.seeds == (3, 7, 8)
    assert ask(seeds=1).seeds == (3,)
    assert [(entry.what, entry.paper, entry.here) for entry in describe_choices(changed)] == [
        ("evaluated weights", "final", "best"),
        ("recipe", "paper", "default"),
    ]


class _FailsFirst(Executor):
    """Ends the first task with an error, and runs the others."""

    slots = 1

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        yield Outcome(tasks[0], error=DeconvsegError("the power failed"))
        yield from Serial().run(tasks[1:], console)


def test_a_rehearsed_table_with_a_failing_cell_is_completed_by_resume(tmp_path: Path, strokes: Path) -> None:
    output = tmp_path / "table"
    asked = {"data": strokes, "rows": _ROWS, "scale": 0.001, "steps": 2, "device": "cpu", "workers": 0}
    first = reproduce("deconver/table-4", output, **asked, executor=_FailsFirst())
    states = {row.key: [cell.status for cell in row.cells] for row in first.rows}
    assert states == {"deconver-r1": ["failed"] * 2, "deconver-r2": ["not run"] * 2, "deconver-r4": ["done"] * 2}
    assert first.cell("deconver-r1", "isles22/dsc").reason == "the power failed"
    with pytest.raises(InputError, match="holds a table already"):
        reproduce("deconver/table-4", output, **asked)
    with pytest.raises(InputError, match="started with another scale"):
        reproduce("deconver/table-4", output, **asked | {"steps": 3}, resume=True)
    kept = (output / "cells" / "isles22-deconver-r4-seed0" / "cell.json").stat().st_mtime_ns
    second = reproduce("deconver/table-4", output, **asked, resume=True)
    assert (output / "cells" / "isles22-deconver-r4-seed0" / "cell.json").stat().st_mtime_ns == kept
    cell = second.cell("deconver-r1", "isles22/dsc")
    assert cell.status == "done"
    assert [fold.fold for fold in cell.folds] == [0, 1]
    assert len({score.case for score in cell.cases}) == len(cell.cases) == 6
    assert cell.published.value == 77.39
    assert {entry.what for entry in second.scaled} >= {"folds", "widths of the networks", "steps of a training"}
    assert read_results(output) == second
    _check_distances(output, strokes, second)
    splits = [run.read_text() for run in output.glob("cells/*/crossval/splits_final.json")]
    assert len(splits) == 2
    assert splits[0] == splits[1]


def _check_distances(output: Path, strokes: Path, result: TableResult) -> None:
    """HD95 is in voxels of the plan's grid, of the cases in which neither mask is empty, and these are counted."""
    cell = result.cell("deconver-r1", "isles22/hd95")
    runs = output / "cells" / "isles22-deconver-r1-seed0" / "crossval"
    for score in cell.folds:
        run = runs / f"fold_{score.fold}"
        found = evaluate(
            strokes / "strokes", run / "validation", run=run, grid="plan", unit="voxel", metrics="hd95_defined",
            splits=output / "splits" / "isles22.json", split="val", fold=score.fold,
        )  # fmt: skip
        values = {case.case: case.value for case in cell.cases if case.fold == score.fold}
        assert values == {case.name: case.mean["hd95_defined"] for case in found.cases}
        assert score.value == found.summary["mean"]["hd95_defined"]["mean"]
    known = sum(score.value is not None for score in cell.cases)
    (note,) = [note for note in result.notes if note.startswith("ISLES'22, HD95: scores of the cases in which")]
    title = next(row.title for row in result.rows if row.key == "deconver-r1")
    assert f"{title} {known} of 6" in note


def test_distances_of_the_deconver_tables_are_the_authors_reading() -> None:
    columns = [column for key in list_protocols() for column in read_protocol(key).columns if "hd95" in column.key]
    assert len(columns) == 10
    assert {(column.metric, column.grid, column.unit) for column in columns} == {("hd95_defined", "plan", "voxel")}


def test_a_table_of_costs_trains_nothing(tmp_path: Path) -> None:
    result = reproduce("dtc/table-7", tmp_path / "table", scale=0.01)
    assert not result.scaled
    counts = [row.costs["isic"].parameters for row in result.rows]
    assert counts == [17_262_977, 17_293_825, 17_444_777, 17_627_473]
    assert not (tmp_path / "table" / "cells").exists()
