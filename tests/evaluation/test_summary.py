"""Means over classes and cases: what absent classes and empty masks may do to them."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.evaluation import evaluate, merge_evaluations, read_evaluation
from deconvseg.evaluation.summary import summarize

STATUSES = st.sampled_from(("ok", "both empty", "missed", "spurious"))


def row(status, dsc=0.5):
    dsc = {"ok": dsc, "both empty": 1.0, "missed": 0.0, "spurious": 0.0}[status]
    return {"name": "x", "status": status, "dsc": dsc, "hd95": 3.0, "hd95_defined": 3.0, "nsd": dsc}


def save(folder, masks):
    for name, pixels in masks.items():
        write_label_map(LabelMap(np.asarray(pixels, np.uint8), Geometry.identity(2)), folder / f"{name}.png")


def square(value=1, start=2, stop=6):
    pixels = np.zeros((12, 10), np.uint8)
    pixels[start:stop, start:stop] = value
    return pixels


class TestAbsentClasses:
    def test_117_declared_one_present_nothing_predicted(self):
        labels = {value: f"organ {value}" for value in range(1, 118)}
        case = {value: row("missed" if value == 1 else "both empty") for value in labels}
        found = summarize([case] * 3, labels)
        assert found["mean"]["dsc"]["mean"] == 0.0
        assert (found["mean"]["classes"], found["mean"]["absent_classes"]) == (1, 116)
        assert found["classes"]["1"]["counted"]
        assert not found["classes"]["2"]["counted"]
        assert found["classes"]["2"]["both_empty"] == 3
        # The paper's rule holds for the class itself.
        assert found["classes"]["2"]["dsc"]["mean"] == 1.0

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.lists(STATUSES, min_size=3, max_size=3), min_size=1, max_size=6))
    def test_declaring_a_class_that_no_mask_has_changes_no_mean(self, statuses):
        cases = [{value: row(status) for value, status in enumerate(case, 1)} for case in statuses]
        labels = {1: "a", 2: "b", 3: "c"}
        wider = summarize([{**case, 9: row("both empty")} for case in cases], {**labels, 9: "rest"})
        if any(status != "both empty" for case in statuses for status in case):
            for key in ("dsc", "hd95", "nsd", "with_truth"):
                assert wider["mean"][key] == summarize(cases, labels)["mean"][key]

    def test_a_class_that_is_predicted_once_counts(self):
        cases = [{1: row("ok", 0.8), 2: row("spurious")}, {1: row("ok", 0.8), 2: row("both empty")}]
        assert summarize(cases, {1: "a", 2: "b"})["mean"]["dsc"]["mean"] == pytest.approx(np.mean([0.4, 0.9]))

    def test_where_no_mask_has_anything_the_rule_for_empty_masks_decides(self):
        found = summarize([{1: row("both empty")}], {1: "a"})
        assert found["mean"]["dsc"]["mean"] == 1.0
        assert found["mean"]["with_truth"] is None

    def test_files_leave_them_out_too(self, tmp_path):
        save(tmp_path / "truth", {"a": square(), "b": square()})
        save(tmp_path / "found", {"a": square(stop=5), "b": square(stop=4)})
        labels = {1: "one", 2: "two", 3: "three"}
        evaluation = evaluate(tmp_path / "truth", tmp_path / "found", tmp_path / "metrics.json", labels=labels)
        alone = evaluate(tmp_path / "truth", tmp_path / "found", labels={1: "one"})
        assert evaluation.mean_dice == alone.mean_dice < 0.8
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["foreground_mean"] == summary["mean"]["1"]
        record = json.loads((tmp_path / "metrics.json").read_text())
        assert [case["mean"]["dsc"] for case in record["cases"]] == [case.mean["dsc"] for case in alone.cases]
        assert read_evaluation(tmp_path / "metrics.json").mean_dice == alone.mean_dice
        assert "1 of 3 classes" in evaluation.describe()

    def test_joined_evaluations_decide_over_all_cases(self, tmp_path):
        save(tmp_path / "truth", {"a": square(1), "b": square(2)})
        save(tmp_path / "found", {"a": square(1, stop=5), "b": np.zeros((12, 10))})
        parts = [
            evaluate(tmp_path / "truth" / f"{n}.png", tmp_path / "found" / f"{n}.png", labels={1: "a", 2: "b"})
            for n in "ab"
        ]
        assert [part.cases[0].counted for part in parts] == [(1,), (2,)]
        assert parts[1].mean_dice == 0.0
        merged = merge_evaluations(parts)
        assert merged.cases[0].counted == (1, 2)
        assert merged.mean_dice == pytest.approx((np.mean([parts[0].mean_dice, 1.0]) + np.mean([1.0, 0.0])) / 2)
        # That one part is blank is not said of the whole.
        assert any("every prediction is empty" in text for text in parts[1].warnings)
        assert merged.warnings == ()


class TestCasesWithTruth:
    @pytest.fixture
    def blank(self, tmp_path):
        """15 healthy and 13 diseased images, and nothing predicted."""
        masks = {f"c{i:02d}": square(int(i >= 15)) for i in range(28)}
        save(tmp_path / "truth", masks)
        save(tmp_path / "found", dict.fromkeys(masks, np.zeros((12, 10))))
        return evaluate(tmp_path / "truth", tmp_path / "found", tmp_path / "metrics.json")

    def test_a_blank_model_is_told_from_a_good_one(self, blank):
        assert blank.mean_dice == pytest.approx(15 / 28)
        assert blank.dice_with_truth == 0.0
        assert blank.counts["missed"] == blank.counts["with_truth_masks"] == blank.counts["cases_with_truth"] == 13
        assert blank.counts["without_truth_masks"] == blank.counts["both_empty"] == 15
        (warning,) = blank.warnings
        assert "every prediction is empty: 13 of 13 structures are missed" in warning
        assert blank.describe() == (
            "mean Dice 0.536 over 28 cases; 0.000 over the 13 with a structure in the true mask, "
            "13 of 13 structures missed, 0 of 15 false alarms"
        )

    def test_nothing_is_told_twice(self, tmp_path):
        """Without an empty true mask, the mean with truth is the mean, and there can be no false alarm."""
        masks = {name: square(1) for name in ("a", "b")}
        save(tmp_path / "truth", masks)
        save(tmp_path / "found", masks)
        found = evaluate(tmp_path / "truth", tmp_path / "found", tmp_path / "metrics.json")
        assert found.describe() == "mean Dice 1.000 over 2 cases; 0 of 2 structures missed"

    def test_the_summary_in_the_shape_of_nnunet_has_it(self, blank):
        summary = blank.to_nnunet()
        for mean in (summary["mean"]["1"], summary["foreground_mean"]):
            assert mean["Dice"] == pytest.approx(15 / 28)
            assert (mean["Dice_with_truth"], mean["cases_with_truth"]) == (0.0, 13)

    def test_masks_of_other_classes_alone_are_not_called_empty(self, tmp_path):
        save(tmp_path / "truth", {"a": square(1)})
        save(tmp_path / "found", {"a": square(2)})
        (warning,) = evaluate(tmp_path / "truth", tmp_path / "found", labels={1: "lesion"}).warnings[-1:]
        assert warning == "every prediction lacks the scored classes: 1 of 1 structures are missed"

    def test_both_csv_files_have_it(self, blank, tmp_path):
        with (tmp_path / "metrics.csv").open(newline="") as stream:
            cells = [line["dsc_with_truth"] for line in csv.DictReader(stream)]
        assert [cell for cell in cells if cell] == ["0.0"] * 13
        with (tmp_path / "summary.csv").open(newline="") as stream:
            label, mean = csv.DictReader(stream)
        for line in (label, mean):
            assert (line["cases"], line["cases_with_truth"], line["missed"], line["both_empty"]) == (
                "28",
                "13",
                "13",
                "15",
            )
            assert float(line["dsc"]) == pytest.approx(15 / 28)
            assert float(line["dsc_with_truth"]) == 0.0
        assert (label["label"], label["class"], mean["label"]) == ("1", "label 1", "mean")

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(STATUSES, STATUSES, st.floats(0.1, 0.9)), min_size=1, max_size=8))
    def test_it_is_the_mean_over_what_the_true_masks_have(self, drawn):
        cases = [{1: row(a, d), 2: row(b, d)} for a, b, d in drawn]
        found = summarize(cases, {1: "a", 2: "b"})
        true = [[c[v]["dsc"] for v in (1, 2) if c[v]["status"] in ("ok", "missed")] for c in cases]
        expected = [np.mean(values) for values in true if values]
        mean = found["mean"]["with_truth"]
        assert found["mean"]["cases_with_truth"] == len(expected)
        assert (mean is None) == (not expected)
        if expected:
            assert mean["dsc"]["mean"] == pytest.approx(np.mean(expected))
        if mean and mean["dsc"]["ci95"]:
            low, high = mean["dsc"]["ci95"]
            assert min(expected) - 1e-9 <= low <= high <= max(expected) + 1e-9

    def test_where_every_true_mask_has_the_class_it_is_the_mean(self):
        found = summarize([{1: row("ok", value)} for value in (0.2, 0.5, 0.9)], {1: "a"})["mean"]
        for key in ("dsc", "hd95", "nsd"):
            for statistic in ("mean", "median", "std", "ci95"):
                assert found["with_truth"][key][statistic] == pytest.approx(found[key][statistic])

    def test_no_case_with_truth_is_said(self, tmp_path):
        save(tmp_path / "truth", {"a": np.zeros((12, 10))})
        save(tmp_path / "found", {"a": square()})
        evaluation = evaluate(tmp_path / "truth", tmp_path / "found", labels={1: "x"})
        assert evaluation.dice_with_truth is None
        assert "no true mask has any of the classes" in evaluation.warnings[0]
        assert "none of which has a structure in its true mask" in evaluation.describe()
