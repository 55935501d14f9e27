"""The published scores are those that the papers print, and the errata follow from them."""

import os
import re
from pathlib import Path

import pytest

from deconvseg.catalog import DATASETS, PRESETS, PUBLISHED_SCORES, PUBLISHED_TABLES, REASONS

TABLES = list(PUBLISHED_SCORES.values())

# Copied from the text of DTC's paper, row by row, as they are printed.
PRINTED = """
dtc/table-1
unet-linear 78.23±2.38 75.08±1.76
unet-linear+dysample 79.29±1.55 76.24±1.14
unet-linear+fade 78.80±1.45 75.80±2.02
unet-linear+dtc 79.58±1.47 78.14±1.69
unet-tc 78.57±1.08 75.76±1.24
unet-tc+dtc 79.41±1.02 78.49±1.63
dtc/table-2
segmamba 78.21±0.91 75.43±1.78
segmamba+dtc 78.70±1.42 76.66±1.51
swinunetr-v2 77.18±1.23 76.02±1.18
swinunetr-v2+dtc 77.40±1.14 76.35±2.22
dtc/table-3
nnunet 81.52 76.10
nnunet+dtc 81.66 75.97
unetr 69.65 59.18
unetr+dtc 71.98 62.15
nnmamba 75.47 67.05
nnmamba+dtc 76.77 68.19
dtc/table-4
unet-linear:offset 62.32±3.68
unet-linear:offset+tanh 69.82±2.19
unet-linear:weight+offset 56.31±4.92
unet-linear:weight+offset+tanh 56.59±4.57
unet-linear:weight+sigmoid+offset 72.59±3.55
unet-linear:weight+sigmoid+offset+tanh 78.14±1.69
unet-tc:offset 70.54±2.55
unet-tc:offset+tanh 78.06±1.08
unet-tc:weight+offset 49.70±5.78
unet-tc:weight+offset+tanh 55.91±4.11
unet-tc:weight+sigmoid+offset 74.50±2.96
unet-tc:weight+sigmoid+offset+tanh 78.49±0.69
dtc/table-5
nnmamba:inf 75.48 66.86
nnmamba:10 75.46 66.84
nnmamba:2 75.56 67.12
nnmamba:1 76.77 68.19
unetr:inf 71.94 61.76
unetr:10 70.99 61.78
unetr:2 71.98 62.15
unetr:1 69.39 59.13
unet-tc:inf 70.85
unet-tc:10 79.41
unet-tc:2 78.44
unet-tc:1 77.65
unet-linear:inf 77.30
unet-linear:10 79.58
unet-linear:2 78.83
unet-linear:1 78.93
dtc/table-6
dysample 76.24±1.14 79.29±1.55
dysample+dtc 78.72±0.71 80.49±0.30
fade 75.80±2.02 78.80±1.45
fade+dtc 76.87±1.41 78.64±1.05
"""


def show(score):
    return f"{score.value:.2f}" + (f"±{score.sd:.2f}" if score.sd is not None else "")


def test_every_score_of_dtc_is_the_printed_one():
    lines = []
    for number in range(1, 7):
        table = PUBLISHED_SCORES[f"dtc/table-{number}"]
        lines.append(table.key)
        lines += [" ".join([row.key, *(show(score) for score in row.scores.values())]) for row in table.rows]
    assert lines == PRINTED.strip().splitlines()


def test_the_scores_of_deconver_are_those_of_its_tables_of_costs():
    # Table II prints regions as ET, TC, WT and their average; the others one pair for a dataset.
    for number, table in enumerate(PUBLISHED_TABLES[:5], start=1):
        scores = PUBLISHED_SCORES[f"deconver/table-{number}"]
        for row, published in zip(scores.rows, table.rows, strict=True):
            pairs = list(published.scores.values())
            values = [row.scores[column.key].value for column in scores.columns]
            by_metric = [pair[place] for place in (0, 1) for pair in pairs]
            assert values == (by_metric if number == 2 else [value for pair in pairs for value in pair])
            assert float(row.parameters.rstrip("M")) == published.published_parameters
            assert float(row.cost.partition("K/")[0]) == published.published_cost


def test_every_table_has_its_columns_rows_and_reasons():
    named = {reason for table in TABLES for reason in table.reasons}
    named |= {reason for table in TABLES for row in table.rows for reason in row.reasons}
    assert named <= set(REASONS)
    assert list(PUBLISHED_SCORES) == [
        *(f"deconver/table-{number}" for number in range(1, 6)),
        *(f"dtc/table-{number}" for number in range(1, 8)),
        "isles26/table-1",
    ]
    for table in TABLES:
        keys = [row.key for row in table.rows]
        assert len(keys) == len(set(keys))
        columns = {column.key for column in table.columns}
        for row in table.rows:
            assert set(row.scores) <= columns
            # What is missing is said, or is a network of another dataset of the table.
            several = len({column.dataset for column in table.columns}) > 1
            assert set(row.scores) == columns or row.reasons or several, (table.key, row.key)
        assert {column.dataset for column in table.columns} <= set(PRESETS) & set(DATASETS)


def test_rows_name_variants_of_the_presets_of_their_columns():
    for table in TABLES:
        for row in table.rows:
            for column in table.columns:
                if column.key in row.scores:
                    assert row.variant in PRESETS[column.dataset].variants, (table.key, row.key)


class TestErrata:
    def test_averages_of_distances_are_not_the_means_of_their_columns(self):
        table = PUBLISHED_SCORES["deconver/table-2"]
        for row in table.rows:
            for metric, fits in (("dsc", True), ("hd95", False)):
                regions = [row.scores[f"brats23/{metric}/{name}"].value for name in ("ET", "TC", "WT")]
                # Three rounded numbers and a rounded mean differ by at most 0.01 from exact ones.
                assert (abs(sum(regions) / 3 - row.scores[f"brats23/{metric}"].value) < 0.0101) is fits, row.key
        k3 = table.row("deconver-k3").scores
        assert sum(k3[f"brats23/hd95/{name}"].value for name in ("ET", "TC", "WT")) / 3 == pytest.approx(
            4.243, abs=1e-3
        )

    def test_the_growth_of_parameters_and_operations_from_one_to_four_source_channels(self):
        first, _, last = PUBLISHED_TABLES[3].rows
        assert last.published_cost / first.published_cost - 1 == pytest.approx(0.4255, abs=1e-4)
        assert f"{last.parameters / first.parameters - 1:.1%}" == "35.1%"
        assert abs(last.parameters / first.parameters - 1.3523) > 1e-3

    def test_one_group_takes_five_and_a_half_times_the_parameters(self):
        one, _, channels = PUBLISHED_TABLES[4].rows
        assert one.parameters / channels.parameters == pytest.approx(5.46, abs=5e-3)
        assert one.published_parameters / channels.published_parameters == pytest.approx(5.46, abs=5e-3)

    def test_the_baselines_of_table_6_are_those_of_table_1_exchanged(self):
        first, sixth = PUBLISHED_SCORES["dtc/table-1"], PUBLISHED_SCORES["dtc/table-6"]
        for name in ("dysample", "fade"):
            printed, true = sixth.row(name).scores, first.row(f"unet-linear+{name}").scores
            assert printed["isic/dsc"] == true["busi/dsc"]
            assert printed["busi/dsc"] == true["isic/dsc"]
            assert printed["isic/dsc"] != true["isic/dsc"]

    def test_the_gains_of_table_6_by_dataset(self):
        gains = {}
        for name in ("dysample", "fade"):
            with_dtc = PUBLISHED_SCORES["dtc/table-6"].row(f"{name}+dtc").scores
            for which, table, row in (("printed", 6, name), ("true", 1, f"unet-linear+{name}")):
                base = PUBLISHED_SCORES[f"dtc/table-{table}"].row(row).scores
                gains[name, which] = [
                    round(with_dtc[key].value - base[key].value, 2) for key in ("isic/dsc", "busi/dsc")
                ]
        assert gains["dysample", "printed"] == [2.48, 1.20]
        assert gains["fade", "printed"] == [1.07, -0.16]
        # If only the baselines were exchanged, two of the four gains would be losses.
        assert gains["dysample", "true"] == [-0.57, 4.25]
        assert gains["fade", "true"] == [-1.93, 2.84]

    def test_the_same_mean_of_table_4_has_two_deviations(self):
        last = PUBLISHED_SCORES["dtc/table-4"].row("unet-tc:weight+sigmoid+offset+tanh").scores["busi/dsc"]
        first = PUBLISHED_SCORES["dtc/table-1"].row("unet-tc+dtc").scores
        assert last.value == first["busi/dsc"].value != first["isic/dsc"].value
        assert (last.sd, first["busi/dsc"].sd) == (0.69, 1.63)

    def test_beyond_ten_only_the_scores_of_isic_decline(self):
        table = PUBLISHED_SCORES["dtc/table-5"]
        change = {
            (base, key): table.row(f"{base}:inf").scores[key].value - score.value
            for base in ("nnmamba", "unetr", "unet-tc", "unet-linear")
            for key, score in table.row(f"{base}:10").scores.items()
        }
        assert {place for place, value in change.items() if value > 0} == {
            ("nnmamba", "btcv/dsc"), ("nnmamba", "btcv/nsd"), ("unetr", "btcv/dsc"),
        }  # fmt: skip
        assert round(change["unetr", "btcv/nsd"], 2) == -0.02
        assert change["unet-tc", "isic/dsc"] < change["unet-linear", "isic/dsc"] < -2

    def test_the_millions_of_table_7_are_mebibytes(self):
        rows = PUBLISHED_TABLES[5].rows
        added = rows[3].parameters - rows[0].parameters
        assert added == 364_496
        assert rows[3].published_parameters - rows[0].published_parameters == pytest.approx(1.30)
        assert added * 4 / 2**20 == pytest.approx(1.39, abs=5e-3)
        for row in rows[1:]:
            assert abs(row.parameters * 4 / 2**20 - row.published_parameters) < 0.01


@pytest.mark.skipif(
    "DECONVSEG_PAPERS" not in os.environ, reason="DECONVSEG_PAPERS names no folder of the papers' texts"
)
@pytest.mark.parametrize("table", [table for table in TABLES if table.rows[0].scores], ids=lambda table: table.key)
def test_the_texts_of_the_papers_have_the_scores(table):
    name = {"deconver": "deconver.txt", "dtc": "dtc.txt"}.get(table.key.partition("/")[0])
    if name is None:
        pytest.skip("the text of this paper is not among them")
    text = (Path(os.environ["DECONVSEG_PAPERS"]) / name).read_text(encoding="utf-8")
    text = re.sub(r"\\pm|±", " ± ", re.sub(r"\*\*|\\mathbf|</?u>|[{}$\\]", " ", text.replace(r"\pm", "±")))
    for row in table.rows:
        for column, score in row.scores.items():
            shown = rf"{score.value:.2f}" + (rf"\s*±\s*{score.sd:.2f}" if score.sd is not None else "")
            assert re.search(rf"(?<![\d.]){shown}(?!\d)", text), (row.key, column, shown)
