import subprocess
import sys

import pytest

from deconvseg.catalog import DECONVER_COMPLEXITY, PRESETS


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
    for row in DECONVER_COMPLEXITY:
        if set(row.overrides) == {"kernel_size"}:
            assert PRESETS[row.preset].parameters[row.overrides["kernel_size"]] == row.parameters


@pytest.mark.parametrize("row", DECONVER_COMPLEXITY, ids=lambda row: f"{row.preset}-{row.overrides}")
def test_parameters_are_those_printed_in_the_paper(row):
    exact = row.parameters / 1e6
    if row.preset == "brats23" and row.overrides == {"kernel_size": 5}:
        assert row.published_parameters == 11.0  # the paper prints 11.0 for 11.13 million
        return
    # Table V truncates its third digit, the other tables round.
    assert abs(exact - row.published_parameters) < (0.01 if "groups" in row.overrides else 0.06)


def test_the_catalogue_imports_no_other_package():
    code = "import sys, deconvseg.catalog; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
