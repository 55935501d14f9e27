import itertools
import re
import subprocess
import sys

import pytest

from deconvseg.catalog import FURTHER_TABLES, PRESETS, PUBLISHED_SCORES, PUBLISHED_TABLES, REASONS

ROWS = [(table, row) for table in PUBLISHED_TABLES for row in table.rows]
BUILT = [(table, row) for table, row in ROWS if row.parameters is not None]


ARGUMENTS = [
    {**preset.arguments(variant.model), **variant.arguments}
    for preset in PRESETS.values()
    for variant in preset.variants.values()
]


def test_widths_double_from_the_first_to_at_most_512_or_nnunets_320():
    for arguments in ARGUMENTS:
        widths = arguments.get("widths", ())
        most = 320 if arguments.get("norm") == "instance_affine" else 512
        assert widths == tuple(min(widths[0] * 2**stage, most) for stage in range(len(widths)))


def test_patches_fit_the_networks():
    for preset in PRESETS.values():
        assert len(preset.patch_size) == preset.ends["spatial_dims"]
        assert all(size % 16 == 0 for size in preset.patch_size)
        assert preset.networks.get("unetr", {}).get("image_size", preset.patch_size) == preset.patch_size


def test_every_network_of_a_preset_has_a_variant_and_variants_have_a_network():
    for preset in PRESETS.values():
        assert {variant.model for variant in preset.variants.values()} == set(preset.networks)


def test_the_sizes_of_isles26_are_those_printed():
    rows = next(table.rows for table in FURTHER_TABLES if table.presets == ("isles26",))
    assert [row.published_parameters for row in rows] == [
        22.57, 22.75, 75.17, 72.76, 25.46, 52.77, 24.23, 10.55, 24.30, 11.13, 6.46, 100.63,
    ]  # fmt: skip
    assert [round(row.parameters / 1e6, 2) for row in rows] == [row.published_parameters for row in rows]


def test_receptive_fields_are_those_of_the_paper_of_dtc():
    fields = {
        preset: [
            {**PRESETS[preset].networks[variant.model], **variant.arguments}["upsampling"]["receptive_field"]
            for title, variant in PRESETS[preset].variants.items()
            if title.endswith("with DTC") and "DySample" not in title and "FADE" not in title
        ]
        for preset in ("isic", "busi", "btcv")
    }
    # UNet linear, UNet transposed, SegMamba, SwinUNETR-V2; then nnU-Net (not given), UNETR, nnMamba.
    assert fields == {"isic": [10, 10, 4, 2], "busi": ["inf", 10, 10, 4], "btcv": [2, 2, 1]}


def test_presets_and_tables_give_the_same_parameters():
    for _, row in BUILT:
        if row.preset and set(row.network) == {"kernel_size"}:
            variants = PRESETS[row.preset].variants.values()
            assert (row.parameters, row.network) in [(variant.parameters, variant.arguments) for variant in variants]


def test_tables_are_those_of_the_papers():
    assert [len(table.rows) for table in PUBLISHED_TABLES] == [7, 7, 6, 3, 3, 4]
    for table in PUBLISHED_TABLES:
        assert all(PRESETS[preset].ends["spatial_dims"] == len(table.size) for preset in table.presets)
        assert {tuple(row.scores) for row in table.rows} in (
            {("ISLES'22",)}, {("ET", "TC", "WT", "mean")}, {("GlaS", "FIVES")}, {()},
        )  # fmt: skip
        for row in table.rows:
            assert all(50 < dice < 100 and hd95 > 0 for dice, hd95 in row.scores.values())


# Copied from the text of the papers, row by row: network, parameters, operations, then Dice and HD95 as printed.
PRINTED = """
Deconver, Table I
nnU-Net 22.4 3423.5 76.76 5.54
SegResNet 75.9 2228.6 76.85 5.18
UNETR 133.2 525.9 73.74 6.54
Swin UNETR 62.2 4356.8 76.58 5.55
Factorizer 7.5 2266.7 76.73 5.93
Deconver (3×3×3) 10.5 607.0 78.16 4.99
Deconver (5×5×5) 11.0 607.0 77.37 4.89
Deconver, Table II
nnU-Net 22.6 921.0 86.73 91.40 93.25 90.46 3.33 3.88 5.54 4.34
SegResNet 75.9 2235.7 86.68 91.49 93.44 90.53 3.26 3.92 5.21 4.17
UNETR 139.8 536.8 85.47 89.92 92.64 89.34 4.22 4.98 6.93 5.47
Swin UNETR 62.2 4098.6 86.71 91.27 93.41 90.46 3.42 3.94 5.42 4.36
Factorizer 7.6 1087.5 85.99 90.51 93.13 89.88 3.69 4.36 5.68 4.67
Deconver (3×3×3) 10.6 167.5 87.01 91.56 93.42 90.66 3.30 3.80 5.63 4.45
Deconver (5×5×5) 11.0 167.5 86.97 91.41 93.47 90.62 3.50 3.99 5.59 4.49
Deconver, Table III
nnU-Net 20.6 874.8 91.61 87.17 92.65 33.01
SegResNet 25.5 1928.8 91.23 69.64 92.71 28.80
UNETR 120.2 1195.1 90.45 73.38 90.98 35.40
Swin UNETR 25.1 1406.0 91.70 67.27 92.69 30.87
Deconver (3×3) 20.6 422.8 91.52 68.52 92.48 35.45
Deconver (5×5) 20.8 422.8 92.12 60.49 92.72 30.26
Deconver, Table IV
Deconver, R = 1 7.8 425.8 77.39 5.07
Deconver, R = 2 8.7 486.2 77.32 5.17
Deconver, R = 4 10.5 607.0 78.16 4.99
Deconver, Table V
Deconver, G = 1 57.21 607.4 77.76 5.08
Deconver, G = 8 16.18 607.1 77.90 5.05
Deconver, G = channels 10.48 607.0 78.16 4.99
DTC, Table 7
UNet 65.95 40.13
UNet + DySample 65.97 40.18
UNet + FADE 66.55 42.32
UNet + DTC 67.25 40.52
"""


def test_every_printed_figure_is_the_papers():
    lines = []
    for table in PUBLISHED_TABLES:
        lines.append(table.title.split(":")[0])
        for row in table.rows:
            pairs = [*row.scores.values()]
            # Table II prints all Dice scores before all distances.
            by_pair = [score for pair in pairs for score in pair]
            by_metric = [pair[place] for place in (0, 1) for pair in pairs]
            scores = by_metric if "mean" in row.scores else by_pair
            lines.append(row.system + "".join(f" {figure}" for figure in (*row[3:5], *scores)))
    assert [re.sub(r"(\.\d*?)0+(?= |$)", r"\1", line) for line in lines] == [
        re.sub(r"(\.\d*?)0+(?= |$)", r"\1", line) for line in PRINTED.strip().splitlines()
    ]


def test_the_mean_dice_is_the_mean_of_the_regions():
    for table, row in ROWS:
        if "mean" in row.scores:
            regions = [row.scores[name][0] for name in ("ET", "TC", "WT")]
            assert abs(sum(regions) / 3 - row.scores["mean"][0]) < 0.02, (table.title, row.system)


def test_the_size_of_a_table_is_that_of_a_preset():
    for table in PUBLISHED_TABLES:
        assert not table.presets or table.size in [PRESETS[preset].patch_size for preset in table.presets]


def test_every_preset_and_every_variant_has_a_row():
    tables = (*PUBLISHED_TABLES, *FURTHER_TABLES)
    for name, preset in PRESETS.items():
        sizes = {row.parameters for table in tables if name in table.presets for row in table.rows}
        # The table of GlaS and FIVES has UNETR in the size of FIVES.
        expected = {variant.parameters for variant in preset.variants.values()} - {91_225_313}
        assert expected <= sizes, name


def test_every_reason_is_given_and_every_one_is_known():
    of_scores = {reason for table in PUBLISHED_SCORES.values() for reason in table.reasons}
    of_scores |= {reason for table in PUBLISHED_SCORES.values() for row in table.rows for reason in row.reasons}
    assert {reason for _, row in ROWS for reason in row.reasons} | of_scores == set(REASONS)


@pytest.mark.parametrize(("table", "row"), BUILT, ids=lambda value: getattr(value, "system", ""))
def test_parameters_are_those_printed_in_the_paper(table, row):
    exact = row.parameters / 1e6 if table.parameters_unit == "M" else row.parameters * 4 / 2**20
    difference = abs(exact - row.published_parameters)
    if {"copied", "misprint"} & set(row.reasons):
        assert 0.09 < difference < 0.2
        return
    if "unused_weights" in row.reasons:
        assert 28.3 < difference < 28.4
        return
    decimals = len(str(row.published_parameters).partition(".")[2])
    assert difference < (1 if "truncated" in row.reasons else 0.76) * 10**-decimals


def test_the_catalogue_imports_no_other_package():
    code = "import sys, deconvseg.catalog; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_preset_has_its_papers_recipe_and_preprocessing():
    assert {name: preset.recipe for name, preset in PRESETS.items()} == {
        "isles22": "paper", "brats23": "paper", "glas": "paper", "fives": "paper", "isles26": "paper",
        "isic": "dtc", "busi": "dtc", "btcv": "nnunet",
    }  # fmt: skip
    for name, preset in PRESETS.items():
        for length in (preset.spacing, preset.resize):
            assert length is None or len(length) == len(preset.patch_size), name
        # Fewer labels in each region than in the one before, which contains it.
        regions = [set(labels) for labels in (preset.regions or {}).values()]
        assert all(inner < outer for outer, inner in itertools.pairwise(regions))
        assert preset.regions is None or len(regions) == preset.ends["out_channels"]


def test_the_plan_of_btcv_follows_nnunets_rules():
    preset = PRESETS["btcv"]
    network, spacing, size = preset.networks["nnunet"], list(preset.spacing), list(preset.patch_size)
    for stage, stride in enumerate(network["strides"]):
        if stage:
            isotropic = [axis < 2 * min(spacing) for axis in spacing]
            # No axis becomes shorter than four voxels.
            halved = [fine and length >= 8 for fine, length in zip(isotropic, size, strict=True)]
            assert stride == tuple(1 + half for half in halved)
            spacing = [axis * step for axis, step in zip(spacing, stride, strict=True)]
            size = [length // step for length, step in zip(size, stride, strict=True)]
        kernel = tuple(3 if stage or axis < 2 * min(spacing) else 1 for axis in spacing)
        assert network["kernel_size"][stage] == kernel
    assert size == [6, 6, 6]
