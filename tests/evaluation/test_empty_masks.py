"""The policies for empty masks: what each metric gives, what is dropped, and that the document says the same."""

import csv
import json
import math
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai import metrics as monai

from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate, evaluate_masks, list_metrics, merge_evaluations, read_evaluation
from deconvseg.evaluation.empty_masks import BRATS_PENALTY, EMPTY_STATUSES, POLICIES
from deconvseg.reporting.records import read_evaluation as read_record
from deconvseg.reporting.sections import describe_evaluation

ROOT = Path(__file__).parents[2]
KEYS = [metric.key for metric in list_metrics()]
SHAPE, SPACING = (4, 5, 6), (1.0, 2.0, 0.5)


def pair(status):
    truth, prediction = np.zeros((2, *SHAPE), np.uint8)
    truth[1:3, 1:3, 2] = status in ("missed", "ok")
    prediction[1:3, 2:4, 2] = status in ("spurious", "ok")
    return truth, prediction


def measure(status, policy, metrics="all"):
    return evaluate_masks(*pair(status), {1: "a"}, spacing=SPACING, metrics=metrics, empty=policy)[1]


def monai_value(key, status):
    """Return what MONAI gives where masks are empty."""
    masks = [torch.from_numpy(mask)[None, None] for mask in reversed(pair(status))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if key in ("sensitivity", "precision", "specificity"):
            found = monai.compute_confusion_matrix_metric(key, monai.get_confusion_matrix(*masks))
        elif key == "nsd":
            found = monai.compute_surface_dice(*masks, [1.0], include_background=True, spacing=SPACING)
        else:
            function, options = {
                "dsc": (monai.compute_dice, {}),
                "iou": (monai.compute_iou, {}),
                "rvd": (monai.compute_absolute_volume_difference, {}),
                "hd95": (monai.compute_hausdorff_distance, {"percentile": 95}),
                "hd95_defined": (monai.compute_hausdorff_distance, {"percentile": 95}),
                "assd": (monai.compute_average_surface_distance, {"symmetric": True}),
            }[key]
            found = function(*masks, include_background=True, **options)
    return float(found)


class TestPolicies:
    @pytest.mark.parametrize("status", EMPTY_STATUSES)
    def test_ours_and_that_of_brats_give_a_number_for_every_metric(self, status):
        diagonal = math.hypot(4.0, 10.0, 3.0)
        ours, brats = (measure(status, policy) for policy in ("diagonal", "brats"))
        for metric in list_metrics():
            if metric.key == "hd95_defined":
                assert ours[metric.key] is brats[metric.key] is None
                continue
            value = ours[metric.key]
            assert math.isfinite(value)
            penalty = metric.unit == "length" and status != "both empty"
            assert value == (pytest.approx(diagonal) if penalty else value)
            assert brats[metric.key] == (BRATS_PENALTY if penalty else value)
        assert round(BRATS_PENALTY, 2) == 373.13

    def test_the_numbers(self):
        found = {status: measure(status, "diagonal") for status in EMPTY_STATUSES}
        for key in ("dsc", "iou", "nsd", "sensitivity", "precision", "lesion_f1"):
            assert [found[status][key] for status in EMPTY_STATUSES] == [1.0, 0.0, 0.0]
        assert [found[status]["rvd"] for status in EMPTY_STATUSES] == [0.0, -1.0, 1.0]
        assert [found[status]["specificity"] for status in EMPTY_STATUSES] == [1.0, 1.0, pytest.approx(116 / 120)]

    @pytest.mark.parametrize("key", [key for key in KEYS if key != "lesion_f1"])
    @pytest.mark.parametrize("status", EMPTY_STATUSES)
    def test_drop_leaves_out_what_monai_has_no_number_for(self, key, status):
        found = measure(status, "drop")[key]
        theirs = monai_value(key, status)
        assert (found is None) == (math.isnan(theirs) or math.isinf(theirs))
        assert not math.isinf(theirs) or key == "assd"
        if found is not None:
            assert found == measure(status, "diagonal")[key]

    @pytest.mark.parametrize("policy", POLICIES)
    def test_masks_that_are_not_empty_have_the_same_values_under_each(self, policy):
        assert measure("ok", policy) == measure("ok", "diagonal")

    def test_an_unknown_policy_is_refused(self):
        with pytest.raises(InputError, match="policy for empty masks 'dropp' is unknown: did you mean 'drop'"):
            measure("ok", "dropp")


@pytest.fixture
def folders(tmp_path):
    """One case of each status; of two good ones."""
    for place, status in enumerate(("ok", "ok", *EMPTY_STATUSES)):
        for side, pixels in zip(("truth", "found"), pair(status), strict=True):
            file = tmp_path / side / f"{place}.nii.gz"
            write_label_map(LabelMap(pixels, Geometry(np.diag([*SPACING, 1.0]))), file)
    return tmp_path / "truth", tmp_path / "found"


class TestDropped:
    @pytest.fixture
    def dropped(self, folders, tmp_path):
        return evaluate(
            *folders, tmp_path / "metrics.json", labels={1: "a"}, metrics="hd95,sensitivity,lesion_f1", empty="drop"
        )

    def test_means_are_over_the_others_and_the_dropped_are_counted(self, dropped, folders):
        assert dropped.dropped == {"dsc": 2, "hd95": 3, "sensitivity": 2, "lesion_f1": 2}
        whole = evaluate(*folders, labels={1: "a"})
        good = whole.cases[0].metrics[1]
        row = dropped.summary["mean"]
        assert row["dsc"]["mean"] == pytest.approx(np.mean([good["dsc"], good["dsc"], 0.0]))
        assert row["hd95"]["mean"] == pytest.approx(good["hd95"])
        assert (row["dsc"]["dropped"], row["hd95"]["dropped"]) == (2, 3)
        assert row["with_truth"]["dsc"] == whole.summary["mean"]["with_truth"]["dsc"]
        assert dropped.cases[2].mean["dsc"] is None
        assert dropped.cases[2].mean_with_truth is None
        assert "over 3 of 5 cases (the others are dropped)" in dropped.describe()
        numbers = "Dice 2, HD95 3, Sensitivity 2, Lesion F1 2"
        assert dropped.describe_dropped() == f"dropped for empty masks, of 5 values of a class in a case: {numbers}"
        assert whole.describe_dropped() is None
        assert whole.dropped == {"dsc": 0, "hd95": 0, "hd95_defined": 3, "nsd": 0}

    def test_false_lesions_of_dropped_cases_count(self, dropped):
        totals = dropped.summary["mean"]["lesion_f1"]["totals"]
        assert totals == {"lesions_found": 2, "lesions_missed": 1, "lesions_false": 1}
        assert dropped.summary["mean"]["lesion_f1"]["pooled"] == {"all": pytest.approx(4 / 6)}

    def test_files_have_nothing_where_there_is_no_value(self, dropped, tmp_path):
        record = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert (record["empty"], record["dropped"]) == ("drop", dropped.dropped)
        assert record["empty_masks"]["both empty"].startswith("Dice dropped, HD95 dropped")
        with (tmp_path / "metrics.csv").open(newline="") as stream:
            assert [row["hd95"] == "" for row in csv.DictReader(stream)] == [False, False, True, True, True]
        with (tmp_path / "summary.csv").open(newline="") as stream:
            assert [row["hd95_dropped"] for row in csv.DictReader(stream)] == ["3", "3"]
        summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
        assert summary["mean"]["1"]["HD95"] == dropped.summary["mean"]["hd95"]["mean"]
        assert summary["metric_per_case"][2]["metrics"]["1"]["Dice"] is None
        assert read_evaluation(tmp_path / "metrics.json").to_json(tmp_path) == dropped.to_json(tmp_path)

    def test_what_is_said_of_empty_masks_is_true_of_the_policy(self, folders):
        missed, nothing = ((folders[0] / f"{n}.nii.gz", folders[1] / f"{n}.nii.gz") for n in (3, 2))
        found = {policy: evaluate(*nothing, labels={1: "a"}, empty=policy) for policy in POLICIES}
        scored = "no true mask has any of the classes: a case scores 1 where nothing is predicted, and 0 elsewhere"
        assert found["diagonal"].warnings == found["brats"].warnings == (scored,)
        assert found["drop"].warnings == ("no true mask has any of the classes: Dice has no value",)
        assert found["drop"].describe().startswith("mean Dice – over 0 of 1 case (the others are dropped)")
        for policy, ending in (("diagonal", "; the mean counts 1 with nothing to find as right"), ("drop", "")):
            parts = [evaluate(*one, labels={1: "a"}, empty=policy) for one in (missed, nothing)]
            (warning,) = merge_evaluations(parts).warnings
            assert warning == f"every prediction is empty: 1 of 1 structures are missed{ending}"

    def test_it_is_joined_with_its_like_only(self, dropped, folders):
        parts = [
            evaluate(folders[0] / f"{n}.nii.gz", folders[1] / f"{n}.nii.gz", labels={1: "a"}, empty="drop")
            for n in range(5)
        ]
        merged = merge_evaluations(parts)
        assert merged.dropped == {"dsc": 2, "hd95": 3, "hd95_defined": 3, "nsd": 1}
        assert math.isnan(merge_evaluations(parts[2:3]).mean_dice)
        with pytest.raises(InputError, match="evaluations with metrics"):
            merge_evaluations([*parts, dropped])
        with pytest.raises(InputError, match="evaluations with empty drop and diagonal cannot be joined"):
            merge_evaluations([parts[0], evaluate(*folders, labels={1: "a"})])

    def test_the_report_says_how_many(self, dropped, tmp_path):
        shown = describe_evaluation(read_record(tmp_path / "metrics.json", tmp_path))
        assert shown["dropped"] == "Dice 2, HD95 3, Sensitivity 2, Lesion F1 2"
        names, dices = zip(*[[cell.text for cell in row.cells[:2]] for row in shown["cases"].rows], strict=True)
        assert dices.count("–") == 2
        assert names[-2:] == ("2", "4")
        (_, counts) = shown["tables"][0]
        assert [column.head for column in counts.columns] == ["class", "found", "missed", "false", "Lesion F1"]
        assert [[cell.text for cell in row.cells] for row in counts.rows] == [["a", "2", "1", "1", "0.667"]]


def test_the_document_has_the_table_of_the_metrics():
    document = (ROOT / "docs" / "explanation" / "evaluation.md").read_text(encoding="utf-8")
    tables = runpy.run_path(str(ROOT / "docs" / "metric_tables.py"))
    assert tables["metric_table"]() in document
    assert tables["empty_mask_table"]() in document
