"""Folders of masks to an evaluation and its files."""

import csv
import json
import math
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from consoles import Listening
from deconvseg.data import Geometry, LabelMap, Region, make_demo_dataset, open_dataset, write_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import Evaluation, dice, evaluate, hausdorff95, merge_evaluations, read_evaluation
from deconvseg.evaluation.classes import choose_classes
from deconvseg.runs import Run
from plans import tiny_plan


def save(path, pixels, spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    write_label_map(LabelMap(np.asarray(pixels, np.int16), Geometry(affine)), path)


def mask(*boxes, shape=(12, 10, 6)):
    """A label map: (value, start, stop) per box, on all axes."""
    pixels = np.zeros(shape, np.int16)
    for value, start, stop in boxes:
        pixels[(slice(start, stop),) * len(shape)] = value
    return pixels


@pytest.fixture
def folders(tmp_path):
    """Three cases: one near, one missed and spurious, one with both classes right."""
    truths = {"a": mask((1, 1, 4), (2, 4, 6)), "b": mask((1, 1, 4)), "c": mask((2, 2, 5))}
    predictions = {"a": mask((1, 1, 3), (2, 4, 6)), "b": mask((2, 1, 4)), "c": mask((2, 2, 5))}
    for name in truths:
        save(tmp_path / "truth" / f"{name}.nii.gz", truths[name])
        save(tmp_path / "prediction" / f"{name}.nii.gz", predictions[name])
    return tmp_path / "truth", tmp_path / "prediction", truths, predictions


class TestEvaluate:
    def test_cases_are_matched_by_name_and_measured_in_millimetres(self, folders):
        truth, prediction, truths, predictions = folders
        evaluation = evaluate(truth, prediction)
        assert [case.name for case in evaluation.cases] == ["a", "b", "c"]
        for case in evaluation.cases:
            for value in (1, 2):
                masks = truths[case.name] == value, predictions[case.name] == value
                assert case.metrics[value]["dsc"] == dice(*masks)
                assert case.metrics[value]["hd95"] == hausdorff95(*masks, (1.0, 1.0, 2.0))
                assert case.metrics[value]["volume_truth"] == 2.0 * masks[0].sum()
        assert evaluation.problems == () == evaluation.warnings
        assert evaluation.mean_dice == pytest.approx(np.mean([c.mean["dsc"] for c in evaluation.cases]))

    def test_voxel_units(self, folders):
        truth, prediction, truths, predictions = folders
        case = evaluate(truth, prediction, unit="voxel").cases[0]
        expected = hausdorff95(truths["a"] == 1, predictions["a"] == 1, (1.0, 1.0, 1.0))
        assert case.metrics[1]["hd95"] == expected
        assert case.metrics[1]["volume_truth"] == (truths["a"] == 1).sum()

    def test_a_missing_prediction_a_broken_file_and_another_grid_lose_no_other_case(self, folders):
        truth, prediction, truths, _ = folders
        for name in ("d", "e", "f", "g"):
            save(truth / f"{name}.nii.gz", truths["a"])
        (prediction / "e.nii.gz").write_bytes((prediction / "a.nii.gz").read_bytes()[:60])
        save(prediction / "f.nii.gz", truths["a"], spacing=(1.0, 1.0, 2.5))
        save(prediction / "g.nii.gz", truths["a"][:-1])
        evaluation = evaluate(truth, prediction)
        assert [case.name for case in evaluation.cases] == ["a", "b", "c"]
        assert [problem.split(":")[0] for problem in evaluation.problems] == ["d", "e", "f", "g"]
        missing, broken, spacing, shape = evaluation.problems
        assert "no prediction" in missing
        assert "e.nii.gz" in broken
        assert "2.5" in spacing
        assert "f.nii.gz" in spacing
        assert "(11, 10, 6)" in shape
        assert evaluation.counts["cases"] == 7
        assert evaluation.counts["evaluated"] == 3
        assert evaluation.counts["missing_predictions"] == 1
        assert evaluation.counts["failed"] == 3

    def test_predictions_without_a_truth_are_named(self, folders):
        truth, prediction, truths, _ = folders
        save(prediction / "stray.nii.gz", truths["a"])
        assert "stray" in evaluate(truth, prediction).warnings[0]

    def test_two_predictions_of_a_case_are_a_problem(self, folders):
        truth, prediction, truths, _ = folders
        save(prediction / "a.nii", truths["a"])
        problem = evaluate(truth, prediction).problems[0]
        assert "2 predictions have this name" in problem
        assert "a.nii.gz" in problem

    def test_two_files(self, folders, tmp_path):
        truth, prediction, _, _ = folders
        renamed = prediction / "a.nii.gz"
        renamed.rename(tmp_path / "output.nii.gz")
        evaluation = evaluate(truth / "a.nii.gz", tmp_path / "output.nii.gz")
        assert [case.name for case in evaluation.cases] == ["a"]

    def test_the_console_names_and_counts_the_cases(self, folders):
        console = Listening()
        evaluate(*folders[:2], console=console)
        assert console.told == [
            told for number, name in enumerate("abc") for told in ((name, number, 3), ("evaluating", number + 1, 3))
        ]

    def test_a_function_that_wraps_the_names_still_does(self, folders):
        seen = []
        with pytest.deprecated_call(match="progress="):
            evaluate(*folders[:2], progress=lambda names: (seen.append(name) or name for name in names))
        assert seen == ["a", "b", "c"]


class TestClasses:
    def test_those_of_all_truths_and_none_of_predictions_alone(self, folders):
        truth, prediction, truths, _ = folders
        before = evaluate(truth, prediction).mean_dice
        save(prediction / "c.nii.gz", mask((2, 2, 5), (7, 0, 1)))
        evaluation = evaluate(truth, prediction)
        assert evaluation.labels == {1: "label 1", 2: "label 2"}
        assert evaluation.warnings == ("label values that only predictions have are not scored as classes: 7",)
        assert evaluation.mean_dice <= before
        row = evaluation.cases[0].metrics[2]
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == truths["a"].size

    def test_given_labels_alone(self, folders):
        evaluation = evaluate(*folders[:2], labels={0: "background", 2: "posterior"})
        assert evaluation.labels == {2: "posterior"}

    def test_foreground_is_every_label_above_zero(self, folders):
        truth, prediction, truths, predictions = folders
        evaluation = evaluate(truth, prediction, foreground=True)
        assert evaluation.labels == {1: "foreground"}
        expected = [dice(truths[name] > 0, predictions[name] > 0) for name in "abc"]
        assert [case.metrics[1]["dsc"] for case in evaluation.cases] == expected

    def test_only_empty_masks_and_no_labels(self, tmp_path):
        for side in ("truth", "prediction"):
            save(tmp_path / side / "a.nii.gz", mask())
        with pytest.raises(InputError, match="every mask is empty and nothing names the labels"):
            evaluate(tmp_path / "truth", tmp_path / "prediction")
        assert evaluate(tmp_path / "truth", tmp_path / "prediction", foreground=True).mean_dice == 1.0


class TestDataset:
    @pytest.fixture
    def dataset(self, folders, tmp_path):
        """A Medical Segmentation Decathlon dataset of the three cases, label 1 an object, 9 declared and absent."""
        truth, _, truths, _ = folders
        root = tmp_path / "dataset"
        (root / "imagesTr").mkdir(parents=True)
        truth.rename(root / "labelsTr")
        for name in truths:
            nib.save(
                nib.Nifti1Image(truths[name].astype(np.float32), np.diag([1, 1, 2, 1.0])),
                root / f"imagesTr/{name}.nii.gz",
            )
        pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in truths]
        record = {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "head", "2": "tail", "9": "rest"},
            "training": pairs,
        }
        (root / "dataset.json").write_text(json.dumps(record))
        (tmp_path / "splits.json").write_text(json.dumps({"train": ["a"], "test": ["b", "c"]}))
        return root

    def test_its_declared_labels_and_its_images(self, dataset, folders):
        evaluation = evaluate(dataset, folders[1])
        assert evaluation.labels == {1: "head", 2: "tail", 9: "rest"}
        assert evaluation.warnings == ()
        assert evaluation.cases[0].image_files == (dataset / "imagesTr" / "a.nii.gz",)

    def test_a_split(self, dataset, folders, tmp_path):
        evaluation = evaluate(dataset, folders[1], splits=tmp_path / "splits.json", split="test")
        assert [case.name for case in evaluation.cases] == ["b", "c"]
        assert evaluation.warnings == ()
        assert evaluation.to_json()["split"] == "test"

    def test_a_fold_of_a_list_of_splits(self, dataset, folders, tmp_path):
        parts = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]
        (tmp_path / "folds.json").write_text(json.dumps(parts))
        for fold, names in ((None, ["c"]), (0, ["c"]), (1, ["a", "b"])):
            evaluation = evaluate(dataset, folders[1], splits=tmp_path / "folds.json", split="val", fold=fold)
            assert [case.name for case in evaluation.cases] == names
        with pytest.raises(InputError, match="but fold 2 was requested"):
            evaluate(dataset, folders[1], splits=tmp_path / "folds.json", split="val", fold=2)
        with pytest.raises(InputError, match="`fold=1` has several splits: say which one"):
            evaluate(dataset, folders[1], fold=1)

    def test_a_split_needs_its_file_and_its_name(self, dataset, folders, tmp_path):
        with pytest.raises(InputError, match="needs a splits file"):
            evaluate(dataset, folders[1], split="test")
        with pytest.raises(InputError, match="say which one as `split`: train, val or test"):
            evaluate(dataset, folders[1], splits=tmp_path / "splits.json")
        with pytest.raises(InputError, match="'val' has no cases"):
            evaluate(dataset, folders[1], splits=tmp_path / "splits.json", split="val")

    def test_declared_test_cases_need_no_file(self, tmp_path):
        folder = make_demo_dataset(tmp_path / "busi", like="busi", cases=15)
        data = open_dataset(folder)
        (tmp_path / "masks").mkdir()
        for case in data.cases:
            found = data.load_label(case).pixels > 0
            Image.fromarray(found.astype(np.uint8)).save(tmp_path / "masks" / f"{case.name}.png")
        evaluation = evaluate(folder, tmp_path / "masks", split="test")
        assert sorted(case.name for case in evaluation.cases) == sorted(data.declared_test)
        assert evaluation.summary["mean"]["dsc"]["mean"] == 1
        with pytest.raises(InputError, match="'train' needs a splits file"):
            evaluate(folder, tmp_path / "masks", split="train")

    def test_instance_maps_of_a_layout_are_scored_as_its_class(self, tmp_path):
        (tmp_path / "truth").mkdir()
        (tmp_path / "masks").mkdir()
        glands = np.zeros((16, 16), np.uint8)
        glands[2:6, 2:6], glands[8:14, 8:14] = 1, 5
        Image.fromarray(np.full((16, 16, 3), 120, np.uint8)).save(tmp_path / "truth/testA_1.bmp")
        Image.fromarray(glands).save(tmp_path / "truth/testA_1_anno.bmp")
        Image.fromarray((glands == 5).astype(np.uint8)).save(tmp_path / "masks/testA_1.png")
        evaluation = evaluate(tmp_path / "truth", tmp_path / "masks", metrics="dice")
        assert evaluation.labels == {1: "gland"}
        assert evaluation.foreground
        assert evaluation.cases[0].metrics[1]["dsc"] == pytest.approx(2 * 36 / (36 + 52))

    def test_image_files_beside_it_do_not_make_it_a_folder_of_masks(self, dataset, folders):
        save(dataset / "overview.nii.gz", mask((1, 0, 2)))
        evaluation = evaluate(dataset, folders[1])
        assert [case.name for case in evaluation.cases] == ["a", "b", "c"]
        assert evaluation.labels == {1: "head", 2: "tail", 9: "rest"}

    def test_a_description_beside_masks_does_not_make_them_a_dataset(self, dataset, folders):
        (folders[1] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "head": 1}}))
        evaluation = evaluate(folders[1], folders[1])
        assert [case.name for case in evaluation.cases] == ["a", "b", "c"]


class TestIgnoreLabel:
    @pytest.fixture
    def dataset(self, tmp_path):
        """An nnU-Net dataset of one case whose slab of 9 is to be ignored; the prediction has labels in it."""
        truth = mask((1, 1, 4))
        truth[8:] = 9
        prediction = mask((1, 1, 3))
        prediction[8:10], prediction[10:, :3] = 1, 9
        save(tmp_path / "data" / "imagesTr" / "a_0000.nii.gz", truth)
        save(tmp_path / "data" / "labelsTr" / "a.nii.gz", truth)
        save(tmp_path / "prediction" / "a.nii.gz", prediction)
        record = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "head": 1, "ignore": 9}}
        (tmp_path / "data" / "dataset.json").write_text(json.dumps(record))
        return tmp_path / "data", tmp_path / "prediction"

    @pytest.mark.parametrize("options", [{}, {"labels": {1: "head", 9: "ignore"}}, {"foreground": True}])
    def test_its_voxels_count_nowhere_and_it_is_no_class(self, dataset, options):
        evaluation = evaluate(*dataset, **options)
        assert list(evaluation.labels) == [1]
        (case,) = evaluation.cases
        row = case.metrics[1]
        assert (row["n_truth"], row["n_prediction"], row["tp"]) == (27, 8, 8)
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == 8 * 10 * 6
        assert evaluation.mean_dice == pytest.approx(2 * 8 / (27 + 8))
        assert evaluation.warnings == ()

    def test_its_voxels_are_no_true_negatives_of_the_classes_of_other_cases(self, dataset):
        data, predictions = dataset
        for file in (data / "imagesTr" / "b_0000.nii.gz", data / "labelsTr" / "b.nii.gz", predictions / "b.nii.gz"):
            save(file, mask((5, 1, 4)))
        row = evaluate(data, predictions).cases[0].metrics[5]
        assert (row["status"], row["tn"]) == ("both empty", 8 * 10 * 6)

    def test_a_runs_plan_says_it_where_no_dataset_does(self, dataset, tmp_path):
        data, predictions = dataset
        labels = {"values": [0, 1], "names": ["background", "head"], "ignore": 9}
        Run.create(tmp_path / "run", tiny_plan(labels=labels), {}, {"train": [], "val": [], "test": []})
        assert evaluate(data / "labelsTr", predictions).mean_dice < 0.4
        evaluation = evaluate(data / "labelsTr", predictions, run=tmp_path / "run")
        assert evaluation.ignore_label == 9
        assert evaluation.cases[0].metrics == evaluate(*dataset).cases[0].metrics
        assert evaluation.warnings == ()


class TestRegions:
    """BraTS's: whole tumour, core and enhancing tumour are unions of labels."""

    @pytest.fixture
    def dataset(self, tmp_path):
        truth = mask((1, 1, 8), (2, 2, 6), (3, 3, 5))
        prediction = mask((1, 1, 7), (2, 2, 5), (3, 2, 4))
        truth[9:, :2] = 9
        prediction[9:, :2] = 3
        save(tmp_path / "data" / "imagesTr" / "a_0000.nii.gz", truth)
        save(tmp_path / "data" / "labelsTr" / "a.nii.gz", truth)
        save(tmp_path / "prediction" / "a.nii.gz", prediction)
        record = {
            "channel_names": {"0": "T1"},
            "labels": {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3, "ignore": 9},
            "regions_class_order": [1, 2, 3],
        }
        (tmp_path / "data" / "dataset.json").write_text(json.dumps(record))
        return tmp_path / "data", tmp_path / "prediction", truth, prediction

    def test_each_is_the_union_of_its_labels_outside_ignored_voxels(self, dataset):
        data, folder, truth, prediction = dataset
        evaluation = evaluate(data, folder)
        assert evaluation.labels == {1: "WT", 2: "TC", 3: "ET"}
        assert evaluation.warnings == ()
        (case,) = evaluation.cases
        kept = truth != 9
        for value, members in ((1, (1, 2, 3)), (2, (2, 3)), (3, (3,))):
            masks = [np.isin(pixels, members) & kept for pixels in (truth, prediction)]
            assert case.metrics[value]["dsc"] == dice(*masks)
            assert case.metrics[value]["hd95"] == hausdorff95(*masks, (1.0, 1.0, 2.0))
            assert case.metrics[value]["n_truth"] == masks[0].sum()

    def test_files_name_them_as_nnunet_does_and_say_their_labels(self, dataset, tmp_path):
        evaluate(*dataset[:2], tmp_path / "metrics.json")
        assert set(json.loads((tmp_path / "summary.json").read_text())["mean"]) == {"(1, 2, 3)", "(2, 3)", "3"}
        record = json.loads((tmp_path / "metrics.json").read_text())
        assert record["regions"] == {"1": [1, 2, 3], "2": [2, 3]}
        assert record["ignore_label"] == 9

    def test_labels_that_are_asked_for_are_labels(self, dataset):
        evaluation = evaluate(*dataset[:2], labels={1: "edema"})
        assert evaluation.cases[0].metrics[1]["n_truth"] == (dataset[2] == 1).sum()

    def test_a_runs_plan_says_what_is_scored(self, dataset, tmp_path):
        data, folder, truth, _ = dataset
        regions = [
            {"name": "all", "labels": [1, 2, 3], "paints": 1},
            {"name": "inner", "labels": [2, 3], "paints": 3},
        ]
        labels = {"values": [0, 1, 2, 3], "names": ["background", "a", "b", "c"]}
        for name, changes in (("regions", {"regions": regions}), ("labels", {})):
            Run.create(tmp_path / name, tiny_plan(labels=labels, **changes), {}, {})
        by_region = evaluate(data / "labelsTr", folder, run=tmp_path / "regions")
        assert by_region.labels == {1: "all", 3: "inner"}
        assert by_region.cases[0].metrics[3]["n_truth"] == np.isin(truth, (2, 3)).sum()
        by_label = evaluate(data, folder, run=tmp_path / "labels")
        assert by_label.labels == {1: "a", 2: "b", 3: "c"}
        assert by_label.regions == {}
        with pytest.raises(InputError, match="leave all but one out"):
            evaluate(data, folder, run=tmp_path / "labels", foreground=True)

    def test_a_run_on_the_foreground(self, dataset, tmp_path):
        labels = {"values": [0, 1], "names": ["background", "foreground"], "foreground_only": True}
        Run.create(tmp_path / "run", tiny_plan(labels=labels), {}, {})
        evaluation = evaluate(*dataset[:2], run=tmp_path / "run")
        assert evaluation.foreground
        assert evaluation.labels == {1: "foreground"}

    def test_two_regions_written_as_one_value(self):
        regions = [Region("WT", (1, 2, 3), 1), Region("TC", (2, 3), 2), Region("ET", (3, 2), 2)]
        with pytest.raises(InputError, match="the regions TC are written as a value of another region"):
            choose_classes(labels=None, foreground=False, plan=None, declared=None, regions=regions, ignore=None)


class TestReadingAndMerging:
    def test_what_was_written_comes_back(self, folders, tmp_path):
        (folders[1] / "b.nii.gz").unlink()
        written = evaluate(*folders[:2], tmp_path / "metrics.json")
        read = read_evaluation(tmp_path / "metrics.json")
        assert read.to_json(tmp_path) == written.to_json(tmp_path)
        assert read.counts["missing_predictions"] == merge_evaluations([read]).counts["missing_predictions"] == 1

    def test_parts_make_the_whole(self, folders, tmp_path):
        truth, prediction = folders[:2]
        whole = evaluate(truth, prediction)
        parts = [evaluate(truth / f"{n}.nii.gz", prediction / f"{n}.nii.gz", labels=whole.labels) for n in "cab"]
        merged = merge_evaluations(parts, ["d: lost"])
        assert merged.summary == whole.summary
        assert [case.name for case in merged.cases] == ["a", "b", "c"]
        assert merged.problems == ("d: lost",)

    def test_other_classes_or_units_are_not_joined(self, folders):
        first = evaluate(*folders[:2])
        with pytest.raises(InputError, match="evaluations with labels"):
            merge_evaluations([first, evaluate(*folders[:2], labels={1: "a"})])
        with pytest.raises(InputError, match="in mm and in voxels"):
            merge_evaluations([first, evaluate(*folders[:2], unit="voxel")])

    @pytest.mark.parametrize(
        ("content", "message"),
        [("[]", "JSON object"), ('{"version": 2}', "version 1"), ('{"version": 1}', "incomplete")],
    )
    def test_something_else_is_refused(self, tmp_path, content, message):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(InputError, match=message):
            read_evaluation(tmp_path / "metrics.json")


class TestFiles:
    def test_metrics_json_is_the_evaluation_and_moves_with_its_folder(self, folders, tmp_path):
        truth, prediction = folders[:2]
        evaluation = evaluate(truth, prediction, tmp_path / "metrics.json")
        record = json.loads((tmp_path / "metrics.json").read_text())
        assert record == evaluation.to_json(tmp_path)
        assert record["version"] == 1
        assert (record["unit"], record["tolerance"]) == ("mm", 1.0)
        assert set(record["empty_masks"]) == {"both empty", "missed", "spurious"}
        assert record["counts"]["missed"] == record["counts"]["spurious"] == 1
        assert record["counts"]["both_empty"] == 1
        assert record["cases"][0]["prediction_file"] == "prediction/a.nii.gz"
        assert evaluation.to_json()["cases"][0]["prediction_file"] == str(prediction / "a.nii.gz")

    def test_summary_json_has_nnunets_shape_and_no_nan(self, folders, tmp_path):
        evaluate(*folders[:2], tmp_path / "metrics.json")
        summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
        assert set(summary) == {"metric_per_case", "mean", "foreground_mean"}
        keys = {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref", "HD95", "HD95 defined", "NSD"}
        of_means = keys | {"Dice_with_truth", "cases_with_truth"}
        assert set(summary["foreground_mean"]) == set(summary["mean"]["1"]) == of_means
        first = summary["metric_per_case"][0]
        assert set(first) == {"metrics", "prediction_file", "reference_file"}
        assert Path(first["reference_file"]).is_file()
        dices = [case["metrics"]["1"]["Dice"] for case in summary["metric_per_case"]]
        assert summary["mean"]["1"]["Dice"] == pytest.approx(np.mean(dices))
        assert summary["foreground_mean"]["Dice"] == pytest.approx(
            np.mean([summary["mean"][value]["Dice"] for value in ("1", "2")])
        )

    def test_metrics_csv_has_a_row_per_case_and_class(self, folders, tmp_path):
        evaluation = evaluate(*folders[:2], tmp_path / "out" / "metrics.json")
        with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["case"], row["label"]) for row in rows] == [(c, v) for c in "abc" for v in ("1", "2")]
        assert float(rows[0]["dsc"]) == evaluation.cases[0].metrics[1]["dsc"]

    def test_another_name_keeps_all_three_files_apart(self, folders, tmp_path):
        evaluate(*folders[:2], tmp_path / "test.json")
        assert {"test.json", "test.csv", "test_summary.json"} <= {path.name for path in tmp_path.iterdir()}

    def test_a_folder_takes_metrics_json(self, folders, tmp_path):
        evaluate(*folders[:2], tmp_path / "results")
        assert (tmp_path / "results" / "metrics.json").is_file()

    def test_an_output_below_a_file(self, folders, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=f"{tmp_path / 'file'} is a file, not a folder") as failure:
            evaluate(*folders[:2], tmp_path / "file" / "metrics.json")
        assert failure.value.exit_code == 2

    @pytest.mark.faults
    def test_a_full_disk(self, folders, tmp_path, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(DeconvsegError, match="disk is full"):
            evaluate(*folders[:2], tmp_path / "metrics.json")
        assert not (tmp_path / "metrics.json").exists()


class TestSummary:
    def test_mean_median_deviation_and_an_interval_around_the_mean(self, folders):
        evaluation = evaluate(*folders[:2])
        values = [case.metrics[1]["dsc"] for case in evaluation.cases]
        row = evaluation.summary["classes"]["1"]["dsc"]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["median"] == pytest.approx(np.median(values))
        assert row["std"] == pytest.approx(np.std(values, ddof=1))
        assert min(values) <= row["ci95"][0] <= row["mean"] <= row["ci95"][1] <= max(values)

    def test_the_interval_is_that_of_resampled_means(self):
        rng = np.random.default_rng(0)
        values = rng.beta(8, 2, size=40)
        interval = make_evaluation(values).summary["mean"]["dsc"]["ci95"]
        width = 1.96 * values.std(ddof=0) / math.sqrt(len(values))
        assert interval == pytest.approx([values.mean() - width, values.mean() + width], abs=0.1 * width)
        assert interval == make_evaluation(values).summary["mean"]["dsc"]["ci95"]

    def test_one_case_has_no_deviation_and_no_interval(self):
        row = make_evaluation([0.5]).summary["mean"]["dsc"]
        assert (row["mean"], row["std"], row["ci95"]) == (0.5, None, None)

    def test_a_class_is_counted_where_it_was_missed_spurious_or_absent(self, folders):
        classes = evaluate(*folders[:2]).summary["classes"]
        assert [classes["1"][key] for key in ("missed", "spurious", "both_empty")] == [1, 0, 1]
        assert [classes["2"][key] for key in ("missed", "spurious", "both_empty")] == [0, 1, 0]


class TestBadInput:
    def test_no_common_name(self, folders, tmp_path):
        save(tmp_path / "other" / "z.nii.gz", mask((1, 0, 2)))
        with pytest.raises(InputError, match="no prediction has the name of a case: the cases are a, b, c"):
            evaluate(folders[0], tmp_path / "other")

    def test_no_predictions(self, folders, tmp_path):
        with pytest.raises(InputError, match="no such file or folder"):
            evaluate(folders[0], tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no masks in it"):
            evaluate(folders[0], tmp_path / "empty")

    def test_foreground_has_no_labels(self, folders):
        with pytest.raises(InputError, match="leave all but one out"):
            evaluate(*folders[:2], foreground=True, labels={1: "a"})

    def test_unit(self, folders):
        with pytest.raises(InputError, match="`unit` 'cm' is unknown: did you mean 'mm'"):
            evaluate(*folders[:2], unit="cm")


def test_2d_files_without_a_pixel_size_are_measured_in_pixels(tmp_path):
    for side, shift in (("truth", 0), ("prediction", 2)):
        (tmp_path / side).mkdir()
        pixels = np.zeros((20, 30), np.uint8)
        pixels[5:10, 5 + shift : 10 + shift] = 255
        Image.fromarray(pixels).save(tmp_path / side / "a.png")
    evaluation = evaluate(tmp_path / "truth", tmp_path / "prediction")
    assert (evaluation.unit, evaluation.distance_unit) == ("voxel", "pixels")
    assert evaluation.labels == {255: "label 255"}
    assert evaluation.cases[0].metrics[255]["hd95"] == 2.0


def test_the_hippocampus_test_masks_take_seconds(real_data, tmp_path):
    root = real_data / "hippocampus"
    names = json.loads((root / "splits.json").read_text())["test"]
    for name in names:
        volume = nib.load(root / "labelsTr" / f"{name}.nii.gz")
        pixels = np.roll(np.asanyarray(volume.dataobj), 1, axis=0)
        write_label_map(LabelMap(pixels.astype(np.uint8), Geometry(volume.affine)), tmp_path / f"{name}.nii.gz")
    start = time.perf_counter()
    evaluation = evaluate(root, tmp_path, splits=root / "splits.json", split="test")
    assert len(evaluation.cases) == len(names) == 41
    assert evaluation.labels == {1: "Anterior", 2: "Posterior"}
    assert evaluation.problems == ()
    assert time.perf_counter() - start < 30


def make_evaluation(dices):
    from deconvseg.evaluation.evaluation import CaseMetrics

    rows = [{1: {"name": "a", "status": "ok", "dsc": d, "hd95": 1.0, "hd95_defined": 1.0, "nsd": 1.0}} for d in dices]
    cases = [CaseMetrics(str(i), (4, 4), (1.0, 1.0), row, Path("t"), Path("p")) for i, row in enumerate(rows)]
    return Evaluation(tuple(cases), {1: "a"}, unit="mm", tolerance=1.0)


def test_a_case_that_its_dataset_leaves_out_is_a_problem_and_its_prediction_no_stray(tmp_path):
    root = tmp_path / "raw"
    for name in ("a", "b"):
        save(root / "labelsTr" / f"{name}.nii.gz", mask((1, 1, 4)))
        save(tmp_path / "prediction" / f"{name}.nii.gz", mask((1, 1, 4)))
    save(root / "imagesTr" / "a_0000.nii.gz", mask())
    save(root / "imagesTr" / "b.nii.gz", mask())
    (root / "dataset.json").write_text('{"channel_names": {"0": "MR"}, "labels": {"background": 0, "x": 1}}')
    evaluation = evaluate(root, tmp_path / "prediction")
    assert [case.name for case in evaluation.cases] == ["a"]
    (problem,) = evaluation.problems
    assert "imagesTr/b.nii.gz does not end in a channel number" in problem


class TestCohort:
    """No case leaves the cohort silently, and masks are not compared with themselves."""

    @pytest.mark.parametrize("how", ["folder", "symlink", "hard link", "copy", "saved again"])
    def test_masks_against_themselves_are_told(self, folders, tmp_path, how):
        truth, _, truths, _ = folders
        other = truth if how == "folder" else tmp_path / "other"
        other.mkdir(exist_ok=True)
        for name, pixels in truths.items() if how != "folder" else ():
            source, target = truth / f"{name}.nii.gz", other / f"{name}.nii.gz"
            if how == "symlink":
                target.symlink_to(source)
            elif how == "hard link":
                target.hardlink_to(source)
            elif how == "copy":
                target.write_bytes(source.read_bytes())
            else:
                save(other / f"{name}.nii", pixels)
        (warning,) = evaluate(truth, other).warnings
        assert "themselves" in warning
        assert ("the same file" in warning) == (how in ("folder", "symlink", "hard link"))

    def test_one_linked_mask_among_others_is_named(self, folders):
        truth, prediction = folders[:2]
        (prediction / "c.nii.gz").unlink()
        (prediction / "c.nii.gz").symlink_to(truth / "c.nii.gz")
        (warning,) = evaluate(truth, prediction).warnings
        assert "1 of 3 predictions are the same file as their true mask (c)" in warning

    def test_good_masks_are_not_called_copies(self, folders):
        assert evaluate(*folders[:2]).warnings == ()

    def test_predictions_without_a_truth_are_counted(self, folders, tmp_path):
        truth, prediction, truths, _ = folders
        save(prediction / "stray.nii.gz", truths["a"])
        evaluation = evaluate(truth, prediction, tmp_path / "metrics.json")
        assert evaluation.unmatched == ("stray",)
        assert evaluation.counts["unmatched_predictions"] == 1
        assert json.loads((tmp_path / "metrics.json").read_text())["unmatched"] == ["stray"]
        assert read_evaluation(tmp_path / "metrics.json").unmatched == ("stray",)
        # A single file is a choice among the predictions.
        assert evaluate(truth / "a.nii.gz", prediction).unmatched == ()

    def test_masks_of_a_dataset_that_says_more_of_them(self, tmp_path):
        root = tmp_path / "data"
        truth = mask((1, 1, 4), (2, 4, 6))
        truth[9:] = 9
        for file in ("imagesTr/a_0000", "labelsTr/a"):
            save(root / f"{file}.nii.gz", truth)
        save(tmp_path / "found" / "a.nii.gz", mask((1, 1, 3), (2, 4, 6)))
        labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 9}
        record = {"channel_names": {"0": "MR"}, "labels": labels, "regions_class_order": [1, 2]}
        (root / "dataset.json").write_text(json.dumps(record))
        expected = f"{root} declares the ignore label 9 and the regions whole, core"
        for given in (root / "labelsTr", root / "labelsTr" / "a.nii.gz"):
            warning = evaluate(given, tmp_path / "found").warnings[-1]
            assert expected in warning
            assert f"`truth={str(root)!r}`" in warning
        assert "regions" not in evaluate(root / "labelsTr", tmp_path / "found", foreground=True).warnings[-1]
        assert not any("declares" in text for text in evaluate(root, tmp_path / "found").warnings)


class TestOrigin:
    def test_masks_in_a_run_are_that_runs(self, folders, tmp_path):
        truth, prediction = folders[:2]
        for name in ("one", "two"):
            Run.create(tmp_path / name, tiny_plan(), {}, {"train": [], "val": [], "test": []})
        prediction.rename(tmp_path / "one" / "validation")
        origin = evaluate(truth, tmp_path / "one" / "validation").origin
        (made_by,) = origin["runs"]
        assert made_by["name"] == "one"
        assert len(made_by["plan_sha256"]) == 64
        assert (origin["truth"], origin["prediction"]) == ("truth", "validation")

    def test_others_are_of_the_run_that_was_named_or_of_none(self, folders, tmp_path):
        truth, prediction = folders[:2]
        labels = {"values": [0, 1, 2], "names": ["background", "a", "b"]}
        Run.create(tmp_path / "one", tiny_plan(labels=labels), {}, {"train": [], "val": [], "test": []})
        assert evaluate(truth, prediction).origin["runs"] == []
        assert evaluate(truth, prediction, run=tmp_path / "one").origin["runs"][0]["name"] == "one"

    def test_what_predict_recorded_of_masks_that_are_there_counts(self, folders, tmp_path):
        truth, prediction = folders[:2]
        runs = {name: {"name": name, "plan_sha256": "a" * 64, "weights_sha256": name * 64} for name in "xyz"}
        records = [("a.nii.gz", "x"), ("b.nii.gz", "y"), ("gone.nii.gz", "z"), ("a.nii.gz", "y")]
        lines = [json.dumps({"mask": mask, "runs": [runs[name]]}) for mask, name in records]
        (prediction / "predictions.jsonl").write_text("\n".join([*lines, "{damaged", "3", "[]"]))
        assert evaluate(truth, prediction).origin["runs"] == [runs["y"]]


def test_names_that_are_no_utf8_or_a_formula_are_written(folders, tmp_path):
    truth, prediction, truths, predictions = folders
    for name in ("=cmd()", "caf\udce9", "a\u202eb"):
        save(truth / f"{name}.nii.gz", truths["a"])
        save(prediction / f"{name}.nii.gz", predictions["a"])
    evaluate(truth, prediction, tmp_path / "metrics.json")
    found = read_evaluation(tmp_path / "metrics.json")
    assert {"=cmd()", r"caf\udce9", "a\u202eb"} <= {case.name for case in found.cases}
    assert b"\n'=cmd()," in (tmp_path / "metrics.csv").read_bytes()
    assert "\u202e" not in (tmp_path / "metrics.json").read_text(encoding="utf-8")
