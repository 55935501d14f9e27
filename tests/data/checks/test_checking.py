"""The check names every problem by file, counts what it reads, and never stops at the first bad case."""

import json

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from consoles import Listening
from deconvseg.data import check_dataset, open_dataset, resolve_splits
from deconvseg.data.splits.reading import Splits


def pairs(root, masks, images=None):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        mask = np.asarray(mask, dtype=np.uint16)
        image = (images or {}).get(name, np.zeros(mask.shape, np.uint8))
        PIL.Image.fromarray(image).save(root / "images" / f"{name}.png")
        PIL.Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def nnunet(root, masks, labels):
    for name, mask in masks.items():
        for folder, file, pixels in (("imagesTr", f"{name}_0000", np.zeros_like(mask)), ("labelsTr", name, mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(pixels.astype(np.uint8), np.diag([1, 2, 3, 1])), root / folder / f"{file}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": labels}))
    return root


def test_shapes_spacings_and_labels_are_counted(tmp_path):
    masks = {"a": np.zeros((2, 3, 4)), "b": np.ones((4, 3, 4)), "c": np.full((6, 3, 5), 2)}
    masks["a"][0, 0, :] = 1
    report = check_dataset(open_dataset(nnunet(tmp_path, masks, {"background": 0, "organ": 1, "lesion": 2})))
    assert (report.cases, report.labelled, report.channels) == (3, 3, ("MRI",))
    assert vars(report.shapes) == {"minimum": (2, 3, 4), "median": (4, 3, 4), "maximum": (6, 3, 5)}
    assert report.spacings.median == pytest.approx((1, 2, 3))
    assert {value: vars(found) for value, found in report.labels.items()} == {
        0: {"name": "background", "voxels": 20, "cases": 1},
        1: {"name": "organ", "voxels": 4 + 48, "cases": 2},
        2: {"name": "lesion", "voxels": 90, "cases": 1},
    }
    assert report.problems == ()
    assert json.loads(json.dumps(report.to_json()))["labels"]["2"]["voxels"] == 90
    assert "label 1   organ: 32.1 % of the voxels, in 2 of 3 masks" in report.to_text()
    assert "no problems" in report.to_text()


def test_one_bad_case_never_hides_the_others(tmp_path):
    pairs(tmp_path, {name: np.eye(5) for name in "abcdef"})
    (tmp_path / "images" / "b.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "masks" / "d.png").write_bytes((tmp_path / "masks" / "d.png").read_bytes()[:50])
    PIL.Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "masks" / "f.png")
    (tmp_path / "masks" / "e.png").unlink()
    report = check_dataset(open_dataset(tmp_path))
    files = [problem.file.removeprefix(f"{tmp_path}/") for problem in report.errors]
    assert files == ["images/e.png", "images/b.png", "masks/d.png", "masks/f.png"]
    messages = [problem.message for problem in report.errors]
    assert messages[0] == "has no mask in masks/"
    assert messages[1].startswith("is truncated or not a readable image")
    assert messages[3].startswith(f"has the shape (4, 4), but {tmp_path}/images/f.png has (5, 5)")
    assert (report.cases, report.labelled, report.labels[1].cases) == (6, 5, 2)
    for problem in report.problems:
        assert f"error: {problem.file}: {problem.message}" in report.to_text().splitlines()


def test_many_files_with_the_same_problem_are_counted_in_the_text(tmp_path):
    pairs(tmp_path, {f"{number:02d}": np.eye(5) for number in range(30)})
    for number in range(2, 30):
        (tmp_path / "masks" / f"{number:02d}.png").unlink()
    (tmp_path / "images" / "00.png").write_bytes(b"\x89PNG broken")
    report = check_dataset(open_dataset(tmp_path))
    lines = [line for line in report.to_text().splitlines() if line.startswith("error: ")]
    assert len(report.errors) == 29
    assert len(lines) == 10
    assert f"error: 20 more files (the last: {tmp_path}/images/29.png): has no mask in masks/" in lines
    assert any("images/00.png: is truncated" in line for line in lines)


def test_a_link_to_a_file_that_is_gone_is_an_error_of_its_case(tmp_path):
    plain = pairs(tmp_path / "plain", {name: np.eye(5) for name in "abc"})
    raw = nnunet(tmp_path / "raw", {name: np.ones((2, 3, 4)) for name in "abc"}, {"background": 0, "organ": 1})
    for root, gone in ((plain, "images/b.png"), (plain, "masks/c.png"), (raw, "imagesTr/a_0000.nii.gz")):
        (root / gone).unlink()
        (root / gone).symlink_to(tmp_path / "nothing")
    for root, expected in ((plain, ["images/b.png", "masks/c.png"]), (raw, ["imagesTr/a_0000.nii.gz"])):
        report = check_dataset(open_dataset(root))
        assert [problem.file.removeprefix(f"{root}/") for problem in report.errors] == expected
        assert all(f"is a link to {tmp_path / 'nothing'}, which does not exist" in p.message for p in report.errors)


def test_a_dataset_without_one_readable_case_is_still_reported(tmp_path):
    pairs(tmp_path, {"a": np.eye(5)})
    (tmp_path / "images" / "a.png").write_bytes(b"")
    report = check_dataset(open_dataset(tmp_path))
    assert report.shapes is report.spacings is None
    assert len(report.errors) == 1
    assert "none could be read" in report.to_text()
    json.dumps(report.to_json())


def test_expanded_grey_images_are_recorded(tmp_path):
    masks = {name: np.eye(5) for name in "abc"}
    pairs(tmp_path, masks, images={"c": np.ones((5, 5, 3), np.uint8)})
    assert check_dataset(open_dataset(tmp_path)).notes == ("grey images expanded to RGB: 2",)


def test_instance_maps_suggest_foreground(tmp_path):
    pairs(tmp_path, {"a": np.arange(100).reshape(10, 10), "b": np.eye(5)})
    (problem,) = check_dataset(open_dataset(tmp_path)).problems
    assert problem.severity == "error"
    assert problem.message == (
        "the masks have 100 distinct values, which look like instances; "
        "`foreground=True` takes every label above 0 as one class"
    )
    report = check_dataset(open_dataset(tmp_path, foreground=True))
    assert report.problems == ()
    assert {value: found.voxels for value, found in report.labels.items()} == {0: 1 + 20, 1: 99 + 5}


def test_few_instances_are_recognised_by_their_counting(tmp_path):
    pairs(tmp_path, {name: np.arange(count).reshape(1, -1) for name, count in (("a", 5), ("b", 10), ("c", 7))})
    (problem,) = check_dataset(open_dataset(tmp_path)).problems
    assert (problem.severity, "`foreground=True`" in problem.message) == ("warning", True)


def test_few_classes_missing_in_some_cases_are_not_instances(tmp_path):
    pairs(tmp_path, {name: np.arange(count).reshape(1, -1) for name, count in (("a", 1), ("b", 2), ("c", 3))})
    assert check_dataset(open_dataset(tmp_path)).problems == ()


def test_a_declared_class_without_voxels_is_a_warning_that_names_it(tmp_path):
    labels = {"background": 0, "organ": 1, "ghost": 5, "ignore": 6}
    dataset = open_dataset(nnunet(tmp_path, {"a": np.eye(2)[None]}, labels))
    (problem,) = check_dataset(dataset).problems
    assert (problem.severity, problem.message) == ("warning", "the class ghost (5) has no voxel in any mask")


def test_the_ignore_label_is_known_and_counted_but_never_missed(tmp_path):
    labels = {"background": 0, "organ": 1, "ignore": 6}
    mask = np.ones((3, 2, 2))
    mask[0], mask[1] = 6, 0
    report = check_dataset(open_dataset(nnunet(tmp_path, {"a": mask}, labels)))
    assert report.problems == ()
    assert vars(report.labels[6]) == {"name": "ignore", "voxels": 4, "cases": 1}


def test_a_class_that_training_lacks_is_a_warning(tmp_path):
    images = {name: np.full((3, 3), number, np.uint8) for number, name in enumerate("abc")}
    pairs(tmp_path, {"a": np.eye(3), "b": np.eye(3) * 7, "c": np.eye(3)}, images)
    report = check_dataset(open_dataset(tmp_path), splits=Splits(("a", "c"), (), ("b",)))
    (problem,) = report.problems
    assert problem.message == "the class label 7 (7) has no voxel in the training masks"
    assert report.splits == {"train": 2, "val": 0, "test": 1}


def test_undeclared_values_are_an_error_of_their_file(tmp_path):
    masks = {"a": np.eye(2)[None], "b": np.full((2, 2, 2), 9)}
    report = check_dataset(open_dataset(nnunet(tmp_path, masks, {"background": 0, "organ": 1})))
    (problem,) = report.problems
    assert problem.file.endswith("labelsTr/b.nii.gz")
    assert problem.message == "has the label values 9, but the dataset declares 0, 1"
    assert problem.severity == "error"


def test_jpeg_masks_are_a_warning(tmp_path):
    pairs(tmp_path, {"a": np.eye(5)})
    (tmp_path / "masks" / "a.png").unlink()
    mask = np.zeros((16, 16), np.uint8)
    mask[:8, :8] = 255
    for folder in ("images", "masks"):
        PIL.Image.fromarray(mask).save(tmp_path / folder / f"a.{'jpg' if folder == 'masks' else 'png'}")
    (problem,) = check_dataset(open_dataset(tmp_path)).problems
    assert (problem.severity, problem.message[:9]) == ("warning", "is a JPEG")


def test_volumes_among_rasters_are_named(tmp_path):
    pairs(tmp_path, {"a": np.eye(5), "b": np.eye(5)})
    for folder in ("images", "masks"):
        nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.uint8), np.eye(4)), tmp_path / folder / "c.nii")
    (problem,) = check_dataset(open_dataset(tmp_path)).problems
    assert (problem.file, problem.message) == (
        str(tmp_path / "images" / "c.nii"),
        "is 3D, but most cases are 2D",
    )


def test_the_console_counts_the_cases(tmp_path):
    console = Listening()
    check_dataset(open_dataset(pairs(tmp_path, {"a": np.eye(5), "b": np.eye(5)})), console=console)
    assert console.told == [("a", 0, 2), ("reading", 1, 2), ("b", 1, 2), ("reading", 2, 2)]


def test_the_report_counts_the_splits(tmp_path):
    dataset = open_dataset(pairs(tmp_path, {f"c{number}": np.eye(3) for number in range(10)}))
    report = check_dataset(dataset, splits=resolve_splits(dataset, None, fold=0))
    assert "splits    8 train, 2 val, 0 test" in report.to_text()


def test_masks_of_one_value_each_have_no_outline(tmp_path):
    for number, value in enumerate((0, 255, 0)):
        for folder, pixels in (("images", np.arange(30)), ("masks", np.full(30, value))):
            (tmp_path / folder).mkdir(exist_ok=True)
            PIL.Image.fromarray(pixels.reshape(5, 6).astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    warnings = check_dataset(open_dataset(tmp_path)).problems
    assert any(problem.severity == "warning" and "one value everywhere" in problem.message for problem in warnings)
