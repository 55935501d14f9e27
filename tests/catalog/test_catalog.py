import subprocess
import sys

import pytest

from deconvseg.catalog import PRESETS, PUBLISHED_TABLES, REASONS

ROWS = [(table, row) for table in PUBLISHED_TABLES for row in table.rows]
BUILT = [(table, row) for table, row in ROWS if row.parameters is not None]


def test_widths_double_from_the_first_to_at_most_512():
    for preset in PRESETS.values():
        widths = preset.network["widths"]
        assert widths == tuple(min(widths[0] * 2**stage, 512) for stage in range(len(widths)))


def test_patches_fit_the_networks():
    for preset in PRESETS.values():
        multiple = 2 ** (len(preset.network["widths"]) - 1)
        assert len(preset.patch_size) == preset.network["spatial_dims"]
        assert all(size % multiple == 0 for size in preset.patch_size)


def test_presets_and_tables_give_the_same_parameters():
    for _, row in BUILT:
        if row.preset and set(row.network) == {"kernel_size"}:
            assert PRESETS[row.preset].parameters[row.network["kernel_size"]] == row.parameters


def test_tables_are_those_of_the_papers():
    assert [len(table.rows) for table in PUBLISHED_TABLES] == [7, 7, 6, 3, 3, 4]
    for table in PUBLISHED_TABLES:
        assert all(PRESETS[preset].network["spatial_dims"] == len(table.size) for preset in table.presets)
        assert {tuple(row.scores) for row in table.rows} in (
            {("ISLES'22",)}, {("ET", "TC", "WT", "mean")}, {("GlaS", "FIVES")}, {()},
        )  # fmt: skip
        for row in table.rows:
            assert all(50 < dice < 100 and hd95 > 0 for dice, hd95 in row.scores.values())


def test_the_mean_dice_is_the_mean_of_the_regions():
    for table, row in ROWS:
        if "mean" in row.scores:
            regions = [row.scores[name][0] for name in ("ET", "TC", "WT")]
            assert abs(sum(regions) / 3 - row.scores["mean"][0]) < 0.02, (table.title, row.system)


def test_the_size_of_a_table_is_that_of_a_preset():
    for table in PUBLISHED_TABLES:
        assert not table.presets or table.size in [PRESETS[preset].patch_size for preset in table.presets]


def test_every_reason_is_given_and_every_one_is_known():
    assert {reason for _, row in ROWS for reason in row.reasons} == set(REASONS)


@pytest.mark.parametrize(("table", "row"), BUILT, ids=lambda value: getattr(value, "system", ""))
def test_parameters_are_those_printed_in_the_paper(table, row):
    exact = row.parameters / 1e6 if table.parameters_unit == "M" else row.parameters * 4 / 2**20
    difference = abs(exact - row.published_parameters)
    if {"copied", "misprint"} & set(row.reasons):
        assert 0.09 < difference < 0.2
        return
    decimals = len(str(row.published_parameters).partition(".")[2])
    assert difference < (1 if "truncated" in row.reasons else 0.76) * 10**-decimals


def test_the_catalogue_imports_no_other_package():
    code = "import sys, deconvseg.catalog; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
