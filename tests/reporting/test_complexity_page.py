"""Tables, JSON and the page of sizes and costs."""

import json

import pytest
import torch

from deconvseg.catalog import PUBLISHED_TABLES, REASONS
from deconvseg.errors import InputError
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


def test_a_network_that_is_not_there_keeps_its_row_and_says_so():
    absent = MeasuredNetwork("nnU-Net", None, None, FIRST.rows[0])
    table = MeasuredTable(FIRST.title, FIRST.size, (absent,), FIRST)
    reasons = reasons_of([table])
    assert column(table, "published cost") == {"nnU-Net": "3423.5"}
    assert column(table, "notes") == {"nnU-Net": "1, 2, 3"}
    assert text_of_reason(reasons[2]) == "Not in the project yet."
    assert "true (K/voxel)" not in cells(table, reasons)[0]
    assert to_json([table])[0]["networks"][0]["published"]["scores"] == {"ISLES'22": (76.76, 5.54)}


def test_notes_are_numbered_from_one_and_every_one_is_used(tables):
    reasons = reasons_of(tables)
    used = {int(number) for table in tables for row in cells(table, reasons)[1] for number in row[-1].split(", ")}
    assert used == set(range(1, len(reasons) + 1))
    assert REASONS["deconvolutions"] in map(text_of_reason, reasons)


def test_the_papers_cost_is_not_shown_beside_another_size():
    (table,) = compare_with_published(models=["unet"], how=Measuring(size=(64, 64)))
    assert not any(heading.startswith("published cost") for heading in cells(table, [*REASONS])[0])
    assert "cost" not in to_json([table])[0]["networks"][0]["published"]
    (paper,) = compare_with_published(models=["unet"])
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
        (["isles2"], [], None, "preset 'isles2' is unknown: did you mean 'isles22'"),
        ([], ["deconvr"], None, "model 'deconvr' is unknown: did you mean 'deconver'"),
        (["glas"], ["unet"], None, "the papers' tables have no unet for glas"),
        (["glas"], [], (100, 100), "must be a multiple of .32, 32.: pad to .128, 128."),
        (["glas"], [], (64, 64, 64), r"\(batch, 3 channels, 2 spatial sizes\)"),
    ],
)
def test_what_is_unknown_or_does_not_fit_is_refused(presets, models, size, message):
    with pytest.raises(InputError, match=message):
        compare_with_published(presets, models, Measuring(size=size))


def test_networks_of_ones_own_need_a_size():
    with pytest.raises(InputError, match="no size is given: add --size"):
        measure_networks([], ["deconver"], {"in_channels": 1, "out_channels": 1}, Measuring())


def test_the_page_holds_tables_notes_command_and_picture(tables, tmp_path):
    page = tmp_path / "results" / "complexity.md"
    page.parent.mkdir()
    assert write_complexity_page(tables, page, device="cpu") == [page, page.with_suffix(".png")]
    text = page.read_text()
    assert "| Deconver (3×3×3) | 10.5 | 10,476,545 | 607.0 | 607.0 | 707.4 |" in text
    assert f"{text_of_reason('deconvolutions')}\n" in text
    assert "](complexity.png)" in text
    assert f"{torch.get_num_threads()} threads" in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert all(line.count("|") in (0, line.count(" | ") + 2) for line in text.splitlines())


def test_a_page_without_networks_of_the_figure_has_no_picture(tables, tmp_path):
    assert write_complexity_page(tables[1:], tmp_path / "page.md") == [tmp_path / "page.md"]
    assert list(tmp_path.iterdir()) == [tmp_path / "page.md"]
