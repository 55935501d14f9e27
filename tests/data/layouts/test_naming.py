"""Names, regions and colours of the labels of folders and tables; masks in true colour; cases that are left out."""

import json

import numpy as np
import PIL.Image
import pytest

from deconvseg.data import (
    check_dataset,
    describe_excluded,
    open_dataset,
    read_splits,
    record_dataset,
    report_problems,
    resolve_splits,
)
from deconvseg.errors import InputError


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def pairs(tmp_path):
    """Six images with masks of the values 0, 1 and 2, in folders, and a table of them."""
    rows = []
    for number in range(6):
        mask = np.zeros((8, 8), np.uint8)
        mask[1:3, 1:3], mask[4:6, 4:7] = 1, 2
        picture(tmp_path / "images" / f"c{number}.png", mask * 80 + number)
        picture(tmp_path / "masks" / f"c{number}.png", mask)
        rows.append(f"images/c{number}.png,masks/c{number}.png")
    (tmp_path / "table.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    return tmp_path


def counted(dataset):
    report = check_dataset(dataset)
    assert not report.errors, report.to_text()
    return {value: (found.name, found.voxels) for value, found in report.labels.items()}


@pytest.mark.parametrize("name", ["", "table.csv"])
def test_a_file_in_the_folder_names_labels_of_folders_and_of_tables(pairs, name):
    (pairs / "labels.json").write_text('{"labels": {"1": "organ", "2": "lesion"}, "colours": {"organ": "#FF8800"}}')
    dataset = open_dataset(pairs / name)
    assert dataset.label_names == {0: "background", 1: "organ", 2: "lesion"}
    assert counted(dataset) == {0: ("background", 324), 1: ("organ", 24), 2: ("lesion", 36)}
    assert "label 1   organ #ff8800: " in check_dataset(dataset).to_text()


def test_values_of_one_name_are_one_class_in_what_is_loaded_and_counted(pairs):
    dataset = open_dataset(pairs, labels=["1=organ", "2=organ"])
    assert counted(dataset) == {0: ("background", 324), 1: ("organ", 60)}
    assert np.unique(dataset.load(dataset.cases[0])[1].pixels).tolist() == [0, 1]


def test_a_table_s_file_of_labels_declares_regions_and_what_is_ignored(pairs):
    (pairs / "labels.csv").write_text("value,name\n1 2,all\n2,inner\n")
    (pairs / "regions.json").write_text('{"all": [1, 2], "inner": 2}')
    for given in (None, [str(pairs / "regions.json")], ["all=1,2", "inner=2"]):
        dataset = open_dataset(pairs / "table.csv", labels=given)
        assert [(r.name, r.labels, r.written_as) for r in dataset.regions] == [("all", (1, 2), 1), ("inner", (2,), 2)]
    with pytest.raises(InputError, match=r"absent.json does not exist; give a file of labels, or 1=organ"):
        open_dataset(pairs / "table.csv", labels=[str(pairs / "absent.json")])
    (pairs / "labels.csv").unlink()
    assert open_dataset(pairs / "table.csv", foreground=True, labels=["1=thing"]).foreground_name == "thing"
    ignoring = open_dataset(pairs, labels=["1=organ", "2=ignore"])
    assert (ignoring.ignore_label, ignoring.label_names) == (2, {0: "background", 1: "organ"})


def test_a_value_without_a_name_and_a_name_without_a_value_are_named(pairs):
    report = check_dataset(open_dataset(pairs, labels=["1=organ", "3=vessel"]))
    (first, *_) = report.errors
    assert first.file == str(pairs / "masks" / "c0.png")
    assert "has the label values 2, but the dataset declares 0, 1, 3" in first.message
    assert "the class vessel (3) has no voxel in any mask" in report.to_text()


def test_a_file_of_something_else_is_told_and_two_files_are_refused(pairs):
    (pairs / "labels.csv").write_text("image,label\nimages/c0.png,masks/c0.png\n")
    (told,) = open_dataset(pairs).problems
    assert told.severity == "warning"
    assert "is not read as a label file: it has the columns image, label" in told.message
    (pairs / "labels.json").write_text('{"1": "organ"}')
    with pytest.raises(InputError, match=r"has labels.json, labels.csv; keep one of them"):
        open_dataset(pairs)


def test_white_masks_are_the_one_declared_class(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png", np.full((4, 4), 7))
        picture(tmp_path / "masks" / f"{name}.png", np.eye(4) * 255)
    assert counted(open_dataset(tmp_path, labels=["1=line"])) == {0: ("background", 24), 1: ("line", 8)}
    with pytest.raises(InputError, match=r"names line, dot, but `foreground=True` merges all labels into one class"):
        open_dataset(tmp_path, labels=["1=line", "2=dot"], foreground=True)


def test_masks_in_true_colour_are_read_by_the_colours_of_the_labels(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0]], np.uint8)
    ids = np.arange(16).reshape(4, 4) % 3
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png", ids * 50)
        picture(tmp_path / "masks" / f"{name}.png", colours[ids])
    report = check_dataset(open_dataset(tmp_path))
    assert all("or say what its colours mean (`labels`), as 1=organ:#ff0000" in p.message for p in report.errors)
    dataset = open_dataset(tmp_path, labels=["5=organ:#f00", "2=lesion:#008000"])
    assert (dataset.load(dataset.cases[0])[1].pixels == np.array([0, 5, 2])[ids]).all()
    assert counted(dataset) == {0: ("background", 12), 2: ("lesion", 10), 5: ("organ", 10)}
    report = check_dataset(open_dataset(tmp_path, labels=["1=organ:#ff0000"]))
    assert "has the colours #008000 (5 pixels), but the named ones are #ff0000" in report.errors[0].message


def test_grey_masks_stored_as_colours_keep_their_values_where_colours_are_for_show(tmp_path):
    picture(tmp_path / "images" / "a.png", np.full((4, 4), 7))
    picture(tmp_path / "masks" / "a.png", np.repeat((np.eye(4) * 255)[..., None], 3, axis=2))
    assert counted(open_dataset(tmp_path, labels=["255=line:#ff0000"])) == {0: ("background", 12), 255: ("line", 4)}


def exclude_rows(pairs, marks, head="exclude,reason"):
    rows = [f"images/c{number}.png,masks/c{number}.png" for number in range(6)]
    lines = [f"{row},{mark}" for row, mark in zip(rows, marks, strict=True)]
    (pairs / "table.csv").write_text(f"image,label,{head}\n" + "\n".join(lines) + "\n")


def test_marked_rows_are_left_out_counted_and_named(pairs):
    exclude_rows(pairs, ["TRUE,blurred", "1,", "yes,", "x,no lesion", "no,", ","], head="Exclude,Reason")
    dataset = open_dataset(pairs / "table.csv")
    assert dataset.names == ("c4", "c5")
    assert [str(excluded) for excluded in dataset.excluded] == ["c0 (blurred)", "c1", "c2", "c3 (no lesion)"]
    report = check_dataset(dataset)
    assert "left out  4 more, as asked: c0 (blurred), c1, c2, c3 (no lesion)" in report.to_text()
    assert report.to_json()["excluded"] == {"c0": "blurred", "c1": "", "c2": "", "c3": "no lesion"}
    assert "leaves out 4 cases as asked: c0 (blurred)" in str(describe_excluded(dataset))
    assert report_problems(dataset, dataset.names) == []
    exclude_rows(pairs, ["", "", "", "", "", "maybe"], head="exclude")
    with pytest.raises(InputError, match=r"table.csv, line 7: exclude is 'maybe'; write true, 1, yes, y, x, or false"):
        open_dataset(pairs / "table.csv")


def test_names_patterns_and_a_file_in_the_folder_leave_cases_out(pairs):
    dataset = open_dataset(pairs, exclude=["c1=blurred"])
    assert (dataset.names, str(dataset.excluded[0])) == (("c0", "c2", "c3", "c4", "c5"), "c1 (blurred)")
    (pairs / "exclude.txt").write_text("# not these\nc0=cut off\n\nc9\n", encoding="utf-8-sig")
    dataset = open_dataset(pairs, exclude=["c0", "c4"])
    assert [str(excluded) for excluded in dataset.excluded] == ["c0 (cut off)", "c4"]
    assert [problem.message for problem in dataset.problems] == ["names 'c9', which is not a case"]
    with pytest.raises(InputError, match=r"`exclude`: .* has no case 'c12'; did you mean c. or c1"):
        open_dataset(pairs, exclude=["c12"])
    with pytest.raises(InputError, match=r"all 6 cases are excluded"):
        open_dataset(pairs, exclude=["c*"])


def test_what_is_wrong_with_a_case_that_is_left_out_is_not_told(pairs):
    (pairs / "masks" / "c3.png").unlink()
    assert [problem.case for problem in open_dataset(pairs).problems] == ["c3"]
    assert open_dataset(pairs, exclude=["c3"]).problems == ()


def test_splits_may_name_cases_that_are_left_out(pairs):
    splits = {"train": ["c0", "c1", "c2"], "val": ["c3"], "test": ["c4", "c5"]}
    (pairs / "splits.json").write_text(json.dumps(splits))
    dataset = open_dataset(pairs, exclude=["c1", "c5"])
    parts = resolve_splits(dataset, None, fold=0)
    assert vars(parts) == {"train": ("c0", "c2"), "val": ("c3",), "test": ("c4",)}
    with pytest.raises(InputError, match="names cases that the dataset does not have: c1, c5"):
        read_splits(pairs / "splits.json", dataset.names)
    exclude_rows(pairs, ["train,", "train,1", "val,", "val,", "test,", "test,"], head="split,exclude")
    assert vars(resolve_splits(open_dataset(pairs / "table.csv"), None, fold=0))["train"] == ("c0",)


def test_the_record_of_a_run_s_data_knows_merged_labels_and_no_more_than_before_without(pairs):
    plain, merged = (
        record_dataset(open_dataset(pairs, labels=labels))["listing"]
        for labels in (["1=organ", "2=lesion"], ["1=organ", "2=organ"])
    )
    assert plain["labels"] != merged["labels"]
    coloured = record_dataset(open_dataset(pairs, labels=["1=organ", "2=lesion"]))["listing"]
    assert coloured == plain
