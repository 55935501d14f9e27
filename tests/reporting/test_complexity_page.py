"""Tables, JSON and the page of sizes and costs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deconvseg.catalog import FURTHER_TABLES, PUBLISHED_TABLES, REASONS
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.models import complexity
from deconvseg.reporting.complexity import (
    MeasuredNetwork,
    MeasuredTable,
    Measuring,
    cells,
    compare_with_published,
    measure_networks,
    reasons_of,
    text_of_reason,
    to_json,
    write_complexity_page,
)

FIRST = PUBLISHED_TABLES[0]


class Sorted(nn.Module):
    """Sorts, which has no formula."""

    def forward(self, x):
        return x.sort().values


@pytest.fixture(scope="module")
def tables():
    return compare_with_published(["isles22"])


def column(table, heading):
    headings, rows = cells(table, reasons_of([table]))
    place = next(place for place, found in enumerate(headings) if found.startswith(heading))
    return {row[0]: row[place] for row in rows}


def test_published_same_rule_and_true_stand_side_by_side(tables):
    table = tables[0]
    assert column(table, "published cost")["Deconver (3×3×3)"] == "607.0"
    assert column(table, "same rule")["Deconver (3×3×3)"] == "607.0"
    assert column(table, "true")["Deconver (3×3×3)"] == "707.4"
    assert column(table, "true")["Deconver (5×5×5)"] == "1104.9"
    assert column(table, "parameters")["Deconver (5×5×5)"] == "11,028,481"
    assert [table.title for table in tables] == [PUBLISHED_TABLES[place].title for place in (0, 3, 4)]


def test_a_network_that_was_not_measured_keeps_its_row_and_says_so():
    absent = MeasuredNetwork("nnU-Net", None, None, FIRST.rows[0])
    table = MeasuredTable(FIRST.title, FIRST.size, (absent,), FIRST)
    reasons = reasons_of([table])
    assert column(table, "published cost") == {"nnU-Net": "3423.5"}
    assert column(table, "notes") == {"nnU-Net": "1, 2, 3"}
    assert text_of_reason(reasons[2]).startswith("Not measured: the network is made for images of another size")
    assert "true (K/voxel)" not in cells(table, reasons)[0]
    assert to_json([table])[0]["networks"][0]["published"]["scores"] == {"ISLES'22": (76.76, 5.54)}


def test_notes_are_numbered_from_one_and_every_one_is_used(tables):
    reasons = reasons_of(tables)
    used = {int(number) for table in tables for row in cells(table, reasons)[1] for number in row[-1].split(", ")}
    assert used == set(range(1, len(reasons) + 1))
    assert REASONS["deconvolutions"] in map(text_of_reason, reasons)


def test_the_papers_cost_is_not_shown_beside_another_size():
    table, *_ = compare_with_published(models=["unet"], how=Measuring(size=(64, 64)))
    assert not any(heading.startswith("published cost") for heading in cells(table, [*REASONS])[0])
    tree = to_json([table])[0]["networks"][0]
    assert "cost" not in tree["published"]
    assert tree["unit_of_same_rule"] == "G"
    paper, *_ = compare_with_published(models=["unet"])
    assert column(paper, "published cost")["UNet + DTC"] == "40.52"
    assert column(paper, "same rule")["UNet"] == column(paper, "published cost")["UNet"] == "40.13"
    assert column(paper, "weights")["UNet"] == "65.85"


def test_networks_of_ones_own_have_no_published_columns():
    network = {"in_channels": 1, "out_channels": 2, "widths": [4, 8], "spatial_dims": 2}
    (table,) = measure_networks([], ["deconver"], network, Measuring(size=(16, 16), device="cpu"))
    headings, rows = cells(table, [])
    assert headings[:3] == ["model", "parameters", "true (K/voxel)"]
    assert headings[-1] == "seconds"
    assert rows[0][0] == "deconver"
    tree = json.loads(json.dumps(to_json([table])))[0]["networks"][0]
    assert tree["flops"] == 2 * tree["macs"] == 2 * sum(tally["macs"] for tally in tree["operators"].values())
    assert tree["seconds"] > 0


@pytest.mark.parametrize(
    ("presets", "models", "size", "message"),
    [
        (["isles2"], [], None, "preset 'isles2' is unknown: did you mean .*'isles22'"),
        ([], ["deconvr"], None, "model 'deconvr' is unknown: did you mean 'deconver'"),
        (["glas"], ["unet"], None, "the papers' tables have no unet for glas"),
        (["glas"], [], (100, 100), "must be a multiple of .32, 32.: pad to .128, 128."),
        (
            ["glas"],
            [],
            (64, 64, 64),
            "size 64x64x64: the papers have no table for glas with that number of axes; give 2 lengths",
        ),
        ([], ["unet"], (64,), "size 64: the papers have no unet with that number of axes; give 2 lengths"),
        ([], [], (64,), "size 64: the papers have no table with that number of axes; give 2 or 3 lengths"),
    ],
)
def test_what_is_unknown_or_does_not_fit_is_refused(presets, models, size, message):
    with pytest.raises(InputError, match=message):
        compare_with_published(presets, models, Measuring(size=size))


def test_tables_of_images_with_other_axes_than_the_size_are_left_out_with_a_note():
    notes = []
    tables = compare_with_published(models=["unet", "deconver"], how=Measuring((32, 32), note=notes.append))
    assert {len(table.published.size) for table in tables} == {2}
    assert len(tables) == 4
    (note,) = notes
    assert note.startswith(
        "left out, because their images do not have 2 axes: Deconver, Table I: ISLES'22; Deconver, Table II"
    )
    with pytest.warns(UserWarning, match="left out, .* Table III: GlaS and FIVES"):
        compare_with_published(["isles22", "fives"], ["deconver"], Measuring((64, 64, 32)))


def test_work_without_a_formula_and_memory_that_is_not_known_are_noted():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), Sorted())
    row = MeasuredNetwork("pooled", complexity(module, (1, 1, 8, 8)))
    table = MeasuredTable("mine", (8, 8), (row,))
    unknown, untrained = map(text_of_reason, reasons_of([table]))
    assert unknown == "No formula counts sort: the true cost is higher."
    assert untrained.startswith("The memory of training is not known: Sequential refuses an input")
    assert column(table, "notes") == {"pooled": "1, 2"}
    assert not any(heading.startswith("memory, training") for heading in cells(table, reasons_of([table]))[0])
    tree = to_json([table])[0]["networks"][0]
    assert (tree["uncounted"], tree["training_bytes"]) == (("sort",), None)
    assert tree["reasons"] == [unknown, untrained]
    assert "same_rule" not in tree


def test_networks_of_ones_own_need_a_size():
    with pytest.raises(InputError, match="no size is given: add `size`"):
        measure_networks([], ["deconver"], {"in_channels": 1, "out_channels": 1}, Measuring())


def test_the_page_holds_tables_notes_command_and_picture(tables, tmp_path):
    page = tmp_path / "results" / "complexity.md"
    page.parent.mkdir()
    assert write_complexity_page(tables, page, device="cpu") == [page, page.with_suffix(".png")]
    text = page.read_text()
    assert "| Deconver (3×3×3) | 10.5 | 10,476,545 | 607.0 | 607.0 | 707.4 |" in text
    assert f"{text_of_reason('deconvolutions')}\n" in text
    assert "![Published Dice on ISLES'22 against cost](complexity.png)" in text
    assert f"{torch.get_num_threads()} threads" in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert all(line.count("|") in (0, line.count(" | ") + 2) for line in text.splitlines())


def test_the_picture_is_described_by_what_was_measured(tables, tmp_path):
    timed = replace(tables[0], rows=tuple(replace(row, seconds=1.5) for row in tables[0].rows))
    write_complexity_page([timed], tmp_path / "page.md", device="cpu")
    text = (tmp_path / "page.md").read_text()
    assert "## Dice against cost and time\n\n![Published Dice on ISLES'22 against cost and time](page.png)" in text
    assert "| seconds |" in text


def test_the_page_that_the_project_keeps_has_measured_seconds_of_every_network_of_the_project():
    lines = (Path(__file__).parents[2] / "docs/results/complexity.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    headings = [row for row in rows if row[0] == "network"]
    assert len(headings) == len(PUBLISHED_TABLES) + len(FURTHER_TABLES)
    assert all("seconds" in row for row in headings)
    columns = {}
    for row in rows:
        if row[0] == "network":
            columns = {heading: place for place, heading in enumerate(row)}
        elif row[columns["parameters"]].replace(",", "").isdigit():
            assert float(row[columns["seconds"]]) > 0


@pytest.mark.parametrize("name", ["page.png", "page", "page.MD.txt"])
def test_a_page_that_is_not_markdown_is_refused_before_anything_is_written(tables, name, tmp_path):
    with pytest.raises(InputError, match="the page is Markdown; give a name that ends in .md"):
        write_complexity_page(tables, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_table_whose_paper_prints_no_cost_has_no_column_for_it():
    (table,) = compare_with_published(["isles26"], ["ensemble"], how=Measuring((32, 32, 32)))
    headings, rows = cells(table, reasons_of([table]))
    assert headings[:4] == ["network", "published parameters (M)", "parameters", "true (K/voxel)"]
    assert rows[0][:3] == ["SegResNet and Deconver", "100.63", "100,632,002"]
    assert to_json([table])[0]["networks"][0]["same_rule"] is None


def test_an_argument_is_measured_in_all_networks_of_a_preset_that_take_it():
    notes = []
    how = Measuring(size=(32, 32, 32), note=notes.append)
    (table,) = measure_networks(["isles22"], [], {"deep_supervision_heads": 1}, how)
    assert [row.name for row in table.rows] == ["deconver", "nnunet", "factorizer"]
    assert notes == ["left out, because they do not accept deep_supervision_heads: segresnet, unetr, swin_unetr"]
    with pytest.raises(InputError, match=r"preset isles22: argument 'sise' is unknown: did you mean"):
        measure_networks(["isles22"], [], {"sise": 1}, how)
    with pytest.raises(InputError, match=r"preset isles22: none of its deconver, .* takes window and ratio"):
        measure_networks(["isles22"], [], {"window": 1, "ratio": 2}, how)


def test_a_network_whose_package_is_missing_is_noted(monkeypatch):
    def refuse(*_, **__):
        raise MissingPackageError("it is not installed: pip install it")

    monkeypatch.setattr("deconvseg.reporting.complexity.measuring.create_model", refuse)
    notes = []
    (table, _) = compare_with_published(models=["nnunet_resenc"], how=Measuring(note=notes.append))
    assert table.rows[0].complexity is None
    assert notes[0] == "left out: nnU-Net, residual encoder (it is not installed: pip install it)"


def test_a_page_without_networks_of_the_figure_has_no_picture(tables, tmp_path):
    assert write_complexity_page(tables[1:], tmp_path / "page.md") == [tmp_path / "page.md"]
    assert list(tmp_path.iterdir()) == [tmp_path / "page.md"]


def test_a_row_whose_network_is_of_one_size_is_noted_and_says_why_it_is_empty():
    notes = []
    (table,) = compare_with_published(["brats23"], ["unetr"], how=Measuring((32, 32, 32), note=notes.append))
    assert table.rows[0].complexity is None
    assert notes == ["left out, because it accepts only 128x128x128: UNETR"]
    assert any(text_of_reason(reason).startswith("Not measured") for reason in reasons_of([table]))
