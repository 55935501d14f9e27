"""HD95 of the cases in which neither mask is empty: equal to MONAI's metric, and counted wherever it is shown."""

import csv
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvseg.cli.app import main
from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.evaluation import evaluate, evaluate_masks, merge_evaluations
from deconvseg.evaluation.summary import summarize
from deconvseg.experiments.result import CrossValidation
from deconvseg.reporting.comparison.pairing import compare_runs
from deconvseg.reporting.records import read_evaluation
from deconvseg.reporting.sections import describe_evaluation

LABELS = {1: "core", 2: "rim"}
SHAPE = (6, 7, 5)


@st.composite
def case_masks(draw):
    """Cases of true and predicted masks with two classes, some of them without a class or without any."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=6))
    values = st.sampled_from(((0,), (0, 1), (0, 2), (0, 1, 2)))
    count = draw(st.integers(1, 4))
    return [
        [draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(draw(values)))) for _ in range(2)]
        for _ in range(count)
    ]


class TestAgainstMonai:
    @settings(deadline=None, max_examples=20)
    @given(
        case_masks(), st.lists(st.floats(0.2, 5.0).map(lambda x: round(x, 2)), min_size=3, max_size=3), st.booleans()
    )
    def test_values_and_means_are_those_of_its_metric(self, cases, lengths, spaced):
        metrics = pytest.importorskip("monai.metrics", reason="MONAI, the reference, is not installed")
        dims = cases[0][0].ndim
        spacing = tuple(lengths[:dims]) if spaced else (1.0,) * dims
        rows = [evaluate_masks(*case, LABELS, spacing=spacing, metrics="hd95_defined") for case in cases]
        prediction, truth = (
            torch.from_numpy(np.stack([[case[side] == value for value in LABELS] for case in cases])) for side in (1, 0)
        )
        theirs = metrics.HausdorffDistanceMetric(
            include_background=True, percentile=95, reduction="mean_batch", get_not_nans=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            single = theirs(prediction, truth, **({"spacing": list(spacing)} if spaced else {})).numpy()
            means, counts = theirs.aggregate()
            overall, defined = theirs.aggregate(reduction="mean")
        ours = np.array([[row[value]["hd95_defined"] for value in LABELS] for row in rows], float)
        np.testing.assert_allclose(ours, single, rtol=1e-5)
        if not all(row[value]["status"] == "both empty" for row in rows for value in LABELS):
            # A class that no mask has is not counted; MONAI's mean ignores its NaN.
            summary = summarize(rows, LABELS, evaluation_metrics())
            for value, mean, count in zip(LABELS, means.tolist(), counts.tolist(), strict=True):
                found = summary["classes"][str(value)]["hd95_defined"]
                assert found["cases"] == count == len(cases) - found["dropped"]
                assert found["mean"] == (pytest.approx(mean, rel=1e-5) if count else None)
            found = summary["mean"]["hd95_defined"]
            assert found["mean"] == (pytest.approx(float(overall), rel=1e-5) if defined else None)


def evaluation_metrics():
    from deconvseg.evaluation.measuring import Measuring

    return Measuring.choose("hd95_defined").infos


def blocks(first, second):
    truth, prediction = np.zeros((2, *SHAPE), np.uint8)
    truth[1:4, 1:4, 1:3] = first
    prediction[1:5, 2:4, 1:3] = second
    return truth, prediction


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Cases with both masks, without a prediction, and without truth."""
    folder = tmp_path_factory.mktemp("defined")
    for name, masks in {"a": (1, 1), "b": (1, 1), "c": (1, 0), "d": (0, 1)}.items():
        for side, pixels in zip(("truth", "found"), blocks(*masks), strict=True):
            write_label_map(LabelMap(pixels, Geometry(np.diag([2.0, 2.0, 3.0, 1.0]))), folder / side / f"{name}.nii.gz")
    return folder / "truth", folder / "found"


class TestShown:
    def test_the_table_has_its_mean_and_the_number_of_cases(self, folders, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["deconvseg", "evaluate", "-g", str(folders[0]), "-p", str(folders[1])])
        with pytest.raises(SystemExit):
            main()
        head, row = capsys.readouterr().out.splitlines()[:2]
        assert "HD95 defined (mm)" in head
        assert "2.00 (2 of 4)" in row

    def test_files_have_it_and_count_the_dropped(self, folders, tmp_path):
        found = evaluate(*folders, tmp_path / "metrics.json", labels={1: "core"})
        record = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
        statistics = record["summary"]["classes"]["1"]["hd95_defined"]
        assert (statistics["mean"], statistics["cases"], statistics["dropped"]) == (2.0, 2, 2)
        assert record["dropped"] == {"dsc": 0, "hd95": 0, "hd95_defined": 2, "nsd": 0}
        assert found.summary["mean"]["hd95"]["mean"] > 2.0
        with (tmp_path / "metrics.csv").open(newline="") as stream:
            assert [row["hd95_defined"] for row in csv.DictReader(stream)] == ["2.0", "2.0", "", ""]
        with (tmp_path / "summary.csv").open(newline="") as stream:
            (row, _) = csv.DictReader(stream)
        assert (row["hd95_defined"], row["hd95_defined_dropped"], row["cases"]) == ("2.0", "2", "4")

    def test_the_report_has_it(self, folders, tmp_path):
        evaluate(*folders, tmp_path / "metrics.json", labels={1: "core"})
        shown = describe_evaluation(read_evaluation(tmp_path / "metrics.json", tmp_path))
        table = shown["classes"]
        place = next(n for n, column in enumerate(table.columns) if column.head.startswith("HD95 defined (mm)"))
        cell = table.rows[0].cells[place]
        assert (cell.text, cell.notes[-1]) == ("2.00", "2 of 4 cases")
        assert shown["dropped"] == "HD95 defined 2"
        assert shown["empty_masks"]["drops"]
        assert [bool(value) for value in shown["panels"][0]["values"]] == [True, True, False, True]

    def test_folds_have_its_spread_over_their_defined_cases(self, folders, tmp_path):
        parts = [evaluate(*(folder / f"{name}.nii.gz" for folder in folders), labels={1: "core"}) for name in "abcd"]
        folds = {0: ("a", "c"), 1: ("b",), 2: ("d",)}
        found = CrossValidation(tmp_path, merge_evaluations(parts), folds, {}).spread()["classes"]["1"]
        assert found["hd95_defined"]["fold_means"] == [2.0, 2.0, None]
        assert (found["hd95_defined"]["cases"], found["hd95_defined"]["dropped"]) == (2, 2)

    def test_without_an_empty_mask_the_default_table_does_not_repeat_hd95(self, folders, tmp_path):
        one = [folder / "a.nii.gz" for folder in folders]
        found = evaluate(*one, tmp_path / "metrics.json")
        assert [metric.key for metric in found.shown_metrics] == ["dsc", "hd95", "nsd"]
        assert found.summary["mean"]["hd95_defined"] == found.summary["mean"]["hd95"]
        asked = evaluate(*one, metrics="hd95_defined")
        assert [metric.key for metric in asked.shown_metrics] == ["dsc", "hd95_defined"]
        shown = describe_evaluation(read_evaluation(tmp_path / "metrics.json", tmp_path))
        assert shown["names"] == ["Dice", "HD95", "NSD"]
        assert "HD95 defined" not in shown["empty_masks"]["missed"]

    def test_runs_are_compared_by_it_where_a_mask_is_empty(self, folders, tmp_path):
        for name in ("one", "other"):
            evaluate(*folders, tmp_path / name / "metrics.json", labels={1: "core"})
        files = [tmp_path / name / "metrics.json" for name in ("one", "other")]
        assert [metric.key for metric in compare_runs(files).metrics] == ["dsc", "hd95", "hd95_defined", "nsd"]
        evaluate(*folders, files[1], labels={1: "core"}, metrics="dice,hd95,nsd")
        found = compare_runs(files)
        assert [metric.key for metric in found.metrics] == ["dsc", "hd95", "nsd"]
        assert not found.notes
