"""Every layout gives the same cases; what does not fit is said by file name."""

import json

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from deconvseg.data import (
    Case,
    Region,
    Splits,
    check_dataset,
    is_dataset,
    open_dataset,
    open_images,
    read_json_object,
    read_splits,
    resolve_folds,
)
from deconvseg.errors import InputError

RNG = np.random.default_rng(0)


def raster(path, shape=(6, 5), values=256):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(RNG.integers(0, values, shape, dtype=np.uint8)).save(path)
    return path


def volume(path, shape=(4, 5, 6), values=100, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, values, shape, dtype=np.int16)
    nib.save(nib.Nifti1Image(pixels, np.eye(4) if affine is None else affine), path)
    return path


def description(root, **record):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(record))


def nnunet(root, cases=("a", "b"), channels=2, **record):
    for case in cases:
        for channel in range(channels):
            volume(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        volume(root / "labelsTr" / f"{case}.nii.gz", values=3)
    volume(root / "imagesTs" / "unlabelled_0000.nii.gz")
    record.setdefault("channel_names", {str(channel): f"mod{channel}" for channel in range(channels)})
    record.setdefault("labels", {"background": 0, "organ": 1, "lesion": 2})
    description(root, file_ending=".nii.gz", numTraining=len(cases), **record)
    return root


def decathlon(root, shape=(4, 5, 6), modality=None):
    for case in ("a", "b"):
        volume(root / "imagesTr" / f"{case}.nii.gz", shape)
        volume(root / "labelsTr" / f"{case}.nii.gz", values=3)
    description(
        root,
        modality=modality or {"0": "MRI"},
        labels={"0": "background", "1": "organ", "2": "lesion"},
        training=[{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in ("a", "b")],
        test=["./imagesTs/c.nii.gz"],
    )
    return root


def folders(root, mask_folder="masks", ending="", images=(), suffix=".png"):
    for name in images or ("a", "b"):
        raster(root / "images" / f"{name}{suffix}")
        raster(root / mask_folder / f"{name}{ending}.png", values=2)
    return root


def test_nnunet_raw(tmp_path):
    dataset = open_dataset(nnunet(tmp_path))
    assert (dataset.layout, dataset.names) == ("nnunet", ("a", "b"))
    assert dataset.channel_names == ("mod0", "mod1")
    assert dataset.label_names == {0: "background", 1: "organ", 2: "lesion"}
    assert dataset.regions is None
    assert dataset.problems == ()
    image, label_map = dataset.load(dataset.case("b"))
    assert image.channels == 2
    assert image.shape == label_map.shape == (4, 5, 6)
    assert open_dataset(tmp_path / "dataset.json") == dataset


def test_nnunet_regions_and_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    dataset = open_dataset(nnunet(tmp_path, labels=labels, regions_class_order=[1, 2, 3]))
    assert dataset.regions == (
        Region("whole", (1, 2, 3), 1),
        Region("core", (2, 3), 2),
        Region("enhancing", (3,), 3),
    )
    assert dataset.ignore_label == 4
    assert dataset.label_names == {0: "background", 1: "label 1", 2: "label 2", 3: "enhancing"}
    with pytest.raises(InputError, match=r'dataset\.json: .*"regions_class_order" with one value for each of whole'):
        open_dataset(nnunet(tmp_path, labels=labels))
    with pytest.raises(InputError, match=r"not \[1, 2, 'three'\]"):
        open_dataset(nnunet(tmp_path, labels=labels, regions_class_order=[1, 2, "three"]))


@pytest.mark.parametrize(
    ("changes", "order", "message"),
    [
        ({}, [1, 2, 0], r'"regions_class_order" has 0, but the labels of regions are 1, 2, 3,'),
        ({}, [1, 7, 4], r'"regions_class_order" has 7, 4, but the labels of regions are 1, 2, 3,'),
        ({}, [3, 2, 1], r'"regions_class_order" has 1 for enhancing, but each .*\(3 here\).*; correct \[3, 2, 1\]'),
        ({}, [1, 2, 2], r'"regions_class_order" has 2 for core, .* no other region\'s; correct \[1, 2, 2\]'),
        ({"core": [0, 2]}, [1, 2, 3], r'"labels\.core" has 0, but the labels of regions are 1, 2, 3, and 0 is'),
        ({"core": [2, 4]}, [1, 2, 3], r'"labels\.ignore" must be one value that no other label has, not 4'),
        ({"ignore": [4, 5]}, [1, 2, 3], r'"labels\.ignore" must be one value that no other label has, not 4, 5'),
    ],
)
def test_regions_are_of_declared_labels_and_never_the_background(tmp_path, changes, order, message):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4, **changes}
    with pytest.raises(InputError, match=rf"dataset\.json: {message}") as failure:
        open_dataset(nnunet(tmp_path, labels=labels, regions_class_order=order))
    assert failure.value.exit_code == 2


def test_the_ignore_label_stays_known_with_foreground(tmp_path):
    dataset = open_dataset(nnunet(tmp_path, labels={"background": 0, "organ": 1, "ignore": 2}), foreground=True)
    assert (dataset.ignore_label, dataset.label_names) == (2, {0: "background", 1: "organ"})


def test_nnunet_colour_images_and_splits_file(tmp_path):
    for case in ("a", "b"):
        raster(tmp_path / "imagesTr" / f"{case}_0000.png", (6, 5, 3))
        raster(tmp_path / "labelsTr" / f"{case}.png", values=2)
    (tmp_path / "splits_final.json").write_text("[]")
    description(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, labels={"background": 0, "road": 1})
    dataset = open_dataset(tmp_path)
    assert dataset.load(dataset.cases[0])[0].channels == 3
    assert dataset.splits_file == tmp_path / "splits_final.json"


def test_nnunet_reports_what_does_not_fit(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()
    for name in ("labelsTr/orphan", "imagesTr/unnumbered", "imagesTr/a_0002"):
        volume(tmp_path / f"{name}.nii.gz")
    volume(tmp_path / "imagesTr" / "c_0000.nii")
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    dataset = open_dataset(tmp_path)
    found = {
        (problem.file.removeprefix(f"{tmp_path}/"), problem.severity): problem.message for problem in dataset.problems
    }
    assert found == {
        ("imagesTr/b_0000.nii.gz", "error"): "has no mask",
        ("labelsTr/orphan.nii.gz", "warning"): "is a mask without an image",
        ("imagesTr/unnumbered.nii.gz", "error"): "does not end in a channel number (CASE_0000.ext) and is left out",
        ("imagesTr/a_0002.nii.gz", "error"): "is channel 2, but the dataset has 2 channels",
        ("imagesTr/c_0000.nii", "error"): (
            "does not end in .nii.gz, as dataset.json says of all files, and is left out"
        ),
    }
    assert dataset.labelled_names == ("a",)
    with pytest.raises(InputError, match=r"b_0001\.nii\.gz does not exist"):
        dataset.load_image(dataset.case("b"))


def test_medical_segmentation_decathlon(tmp_path):
    dataset = open_dataset(decathlon(tmp_path))
    assert (dataset.layout, dataset.names) == ("msd", ("a", "b"))
    assert dataset.channel_names == ("MRI",)
    assert dataset.label_names == {0: "background", 1: "organ", 2: "lesion"}
    image, label_map = dataset.load(dataset.cases[0])
    assert (image.channels, image.shape, label_map.shape) == (1, (4, 5, 6), (4, 5, 6))


def test_decathlon_channels_are_the_last_axis(tmp_path):
    dataset = open_dataset(decathlon(tmp_path, (4, 5, 6, 2), {"0": "FLAIR", "1": "T1w"}))
    image, label_map = dataset.load(dataset.cases[0])
    assert dataset.channel_names == ("FLAIR", "T1w")
    assert (image.channels, image.shape, label_map.shape) == (2, (4, 5, 6), (4, 5, 6))
    stored = nib.load(tmp_path / "imagesTr" / "a.nii.gz").get_fdata()
    assert np.array_equal(image.pixels, np.moveaxis(stored, 3, 0))


def test_decathlon_pairs_with_nnunet_2_labels_have_regions_and_an_ignore_label(tmp_path):
    record = json.loads((decathlon(tmp_path) / "dataset.json").read_text())
    record |= {"labels": {"background": 0, "whole": [1, 2], "lesion": 2, "ignore": 3}, "regions_class_order": [1, 2]}
    description(tmp_path, **record)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.ignore_label) == ("msd", 3)
    assert dataset.regions == (Region("whole", (1, 2), 1), Region("lesion", (2,), 2))


def test_an_nnunet_1_description_is_read_as_nnunet(tmp_path):
    training = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in ("a", "b")]
    nnunet(tmp_path)
    description(tmp_path, modality={"0": "T1", "1": "T2"}, labels={"0": "background", "1": "x"}, training=training)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.channel_names) == ("nnunet", ("T1", "T2"))


@pytest.mark.parametrize("mask_folder", ["masks", "labels"])
@pytest.mark.parametrize("ending", ["", "_segmentation", "_mask", "_seg", "_label", "_gt"])
def test_two_folders_of_pairs(tmp_path, mask_folder, ending):
    dataset = open_dataset(folders(tmp_path, mask_folder, ending))
    assert dataset.layout == "folders"
    assert dataset.channel_names == ("grey",)
    assert dataset.case("a") == Case("a", (tmp_path / "images" / "a.png",), tmp_path / mask_folder / f"a{ending}.png")


def test_folders_ignore_hidden_files_and_second_observers(tmp_path):
    folders(tmp_path, images=("a", "b"))
    for name in ("images/._a.png", "masks/._a.png", "images/.DS_Store", "images/notes.txt"):
        (tmp_path / name).write_text("no image")
    raster(tmp_path / "masks_2nd_observer" / "a.png")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("a", "b")
    assert dataset.problems == ()


def test_folders_of_volumes(tmp_path):
    for name in ("a", "b"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "labels" / f"{name}_seg.nii", values=2)
    dataset = open_dataset(tmp_path, foreground=True)
    assert (dataset.channel_names, dataset.foreground) == (("image",), True)
    assert dataset.load(dataset.cases[1])[1].shape == (4, 5, 6)


def test_grey_among_colour_is_expanded(tmp_path):
    folders(tmp_path)
    raster(tmp_path / "images" / "c.png", (6, 5, 3))
    raster(tmp_path / "masks" / "c.png", values=2)
    dataset = open_dataset(tmp_path)
    assert dataset.channel_names == ("red", "green", "blue")
    grey, colour = dataset.load_image(dataset.case("a")), dataset.load_image(dataset.case("c"))
    assert grey.channels == colour.channels == 3
    assert (grey.pixels == grey.pixels[:1]).all()
    assert [dataset.expands_grey(case) for case in dataset.cases] == [True, True, False]


def test_one_volume_with_channels_does_not_make_the_others_colour(tmp_path):
    for name in "ab":
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "masks" / f"{name}.nii.gz", values=2)
    volume(tmp_path / "images" / "c.nii.gz", (4, 5, 6, 3))
    dataset = open_dataset(tmp_path)
    assert dataset.channel_names == ("image",)
    assert dataset.load_image(dataset.case("a")).channels == 1


def test_colour_is_what_the_selected_images_show(tmp_path):
    """A colour image that is kept for the test leaves the grey ones grey; what was selected stays as it is."""
    folders(tmp_path)
    raster(tmp_path / "images" / "c.png", (6, 5, 3))
    raster(tmp_path / "masks" / "c.png", values=2)
    (tmp_path / "pairs.csv").write_text("image,label\n" + "".join(f"images/{n}.png,masks/{n}.png\n" for n in "abc"))
    for dataset in (open_dataset(tmp_path), open_dataset(tmp_path / "pairs.csv")):
        grey, mixed = dataset.select("ab"), dataset.select("ac")
        assert (grey.channel_names, mixed.channel_names) == (("grey",), ("red", "green", "blue"))
        assert grey.load_image(grey.case("a")).channels == 1
        assert mixed.select("a").channel_names == mixed.channel_names
        assert mixed.select("a").load_image(mixed.case("a")).channels == 3
        assert dataset.select([]).channel_names == dataset.channel_names


def test_declared_channels_stay_in_a_selection(tmp_path):
    for case, shape in (("a", (6, 5)), ("b", (6, 5, 3))):
        raster(tmp_path / "imagesTr" / f"{case}_0000.png", shape)
        raster(tmp_path / "labelsTr" / f"{case}.png", values=2)
    description(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, labels={"background": 0, "road": 1})
    assert open_dataset(tmp_path).select("a").channel_names == ("R", "G", "B")


def test_folders_report_what_does_not_fit(tmp_path):
    folders(tmp_path)
    raster(tmp_path / "images" / "alone.png")
    raster(tmp_path / "masks" / "orphan.png")
    problems = {(problem.file, problem.message, problem.severity) for problem in open_dataset(tmp_path).problems}
    assert problems == {
        (str(tmp_path / "images" / "alone.png"), "has no mask in masks/", "error"),
        (str(tmp_path / "masks" / "orphan.png"), "is a mask without an image", "warning"),
    }


def test_ambiguous_folders_are_refused(tmp_path):
    folders(tmp_path)
    raster(tmp_path / "masks" / "a_mask.png")
    with pytest.raises(InputError, match=r"a\.png has several masks: .*a\.png and .*a_mask\.png"):
        open_dataset(tmp_path)
    (tmp_path / "masks" / "a_mask.png").unlink()
    raster(tmp_path / "images" / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have the same case name 'a'"):
        open_dataset(tmp_path)
    folders(tmp_path, "labels")
    with pytest.raises(InputError, match=r"has both masks/ and labels/; choose one in a \.csv"):
        open_dataset(tmp_path)


def test_masks_that_match_nothing_are_refused(tmp_path):
    raster(tmp_path / "images" / "a.png")
    raster(tmp_path / "masks" / "x.png")
    with pytest.raises(InputError, match=r"no image of .*images has a mask.* a\.png expects a\.ext or a_mask\.ext"):
        open_dataset(tmp_path)


def test_csv_of_pairs(tmp_path):
    for name in ("one_T1", "one_T2", "two_T1", "two_T2", "seg"):
        volume(tmp_path / "scans" / f"{name}.nii.gz", values=2)
    table = tmp_path / "pairs.csv"
    table.write_text(
        "\ufeffcase, image_0, image_1, label\n"
        "one, scans/one_T1.nii.gz, scans/one_T2.nii.gz, scans/seg.nii.gz\n"
        f"two,{tmp_path}/scans/two_T1.nii.gz,scans/two_T2.nii.gz,\n\n",
        encoding="utf-8",
    )
    dataset = open_dataset(table)
    assert (dataset.layout, dataset.names) == ("csv", ("one", "two"))
    assert dataset.channel_names == ("image_0", "image_1")
    assert dataset.load(dataset.case("one"))[0].channels == 2
    assert dataset.case("two").label is None
    assert dataset.load(dataset.case("two"))[1] is None
    assert dataset.labelled_names == ("one",)
    assert dataset.problems == ()


def test_csv_of_single_images(tmp_path):
    folders(tmp_path)
    table = tmp_path / "pairs.csv"
    table.write_text("image,label\nimages/a.png,masks/a.png\nimages/b.png,masks/b.png\n")
    dataset = open_dataset(table)
    assert (dataset.names, dataset.channel_names) == (("a", "b"), ("grey",))


def test_the_header_of_a_csv_names_the_channels(tmp_path):
    table = tmp_path / "cohort.csv"
    for case, channel in (("a", "T1"), ("a", "FLAIR"), ("b", "T1"), ("b", "FLAIR")):
        volume(tmp_path / f"{case}_{channel}.nii.gz")
    table.write_text(
        "case, age, image_T1, image_FLAIR, mask, split\n"
        "one, 30, a_T1.nii.gz, a_FLAIR.nii.gz, a.nii.gz, train\n"
        "two, 40, b_T1.nii.gz, b_FLAIR.nii.gz,, Test\n"
        "three, 50, c_T1.nii.gz, c_FLAIR.nii.gz, c.nii.gz, validation\n"
        "four, 60, d_T1.nii.gz, d_FLAIR.nii.gz, d.nii.gz,\n"
    )
    dataset = open_dataset(table)
    assert dataset.channel_names == ("T1", "FLAIR")
    assert not dataset.guessed_channels
    assert dataset.root == dataset.splits_file == table
    assert [path.name for path in dataset.case("one").images] == ["a_T1.nii.gz", "a_FLAIR.nii.gz"]
    assert dataset.labelled_names == ("one", "three", "four")
    assert read_splits(table, dataset.names) == Splits(("one",), ("three",), ("two",))
    assert (
        check_dataset(dataset).to_text().startswith(f"{table}: 4 cases, 1 without a mask, layout csv\nchannels  T1, FL")
    )
    table.write_text("image_CT,label\na_T1.nii.gz,a.nii.gz\n")
    assert open_dataset(table).channel_names == ("CT",)
    table.write_text("image,image_id,label\na_T1.nii.gz,7,a.nii.gz\n")
    assert open_dataset(table).channel_names == ("image",)


def test_folds_are_made_of_a_csv_but_its_test_cases(tmp_path):
    for name in "abcde":
        raster(tmp_path / f"{name}.png")
    table = tmp_path / "data.csv"
    parts = dict(zip("abcde", ["train", "train", "val", "train", "test"], strict=True))
    table.write_text("image,label,split\n" + "".join(f"{n}.png,{n}.png,{part}\n" for n, part in parts.items()))
    dataset = open_dataset(table)
    folds = resolve_folds(dataset, None, folds=2, strata=lambda data: dict.fromkeys(data.names, 1.0))
    assert sorted(name for fold in folds for name in fold.val) == ["a", "b", "c", "d"]
    assert {fold.test for fold in folds} == {("e",)}


def test_splits_of_a_csv_are_known_ones(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("image,label,split\na.png,a.png,train\nb.png,b.png,holdout\n")
    with pytest.raises(InputError, match=r"pairs\.csv, line 3: the split is 'holdout'; known are train, val and test"):
        open_dataset(table)
    table.write_text("image,label\na.png,a.png\n")
    with pytest.raises(InputError, match=r"pairs\.csv has no column split"):
        read_splits(table, ["a"])
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        read_splits(tmp_path / "none.csv", ["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has the columns none, but needs image"),
        (
            "image,label,mask\na.png,b.png,c.png\n",
            r"has the columns image, label, mask, but needs .* label \(or mask\)",
        ),
        ("image,label\n", "has no rows"),
        ("image,label\na.png,m.png\n\n,m.png\n", "line 4: image is empty"),
        ("image_0,image_1,label\na.png,,m.png\n", "line 2: image_1 is empty"),
        ("image,label\nx/a.png,m.png\ny/a.png,m.png\n", "names the case a more than once"),
        ("case,image,label\nx/y,a.png,m.png\n", "case name 'x/y' cannot be a file name"),
        ("case,image,label\n..,a.png,m.png\n", "case name '..' cannot be a file name"),
    ],
)
def test_a_broken_csv_is_named(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path / "pairs.csv")


def test_a_csv_that_is_no_text_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"image,label\n\xff\x80,\x81\n")
    with pytest.raises(InputError, match=r"pairs\.csv is not a readable CSV file"):
        open_dataset(tmp_path / "pairs.csv")


def test_what_is_a_dataset_and_what_is_a_folder_of_images(tmp_path):
    """True exactly where a layout is known, so that what `open_dataset` refuses for its layout is none."""
    nnunet(tmp_path / "nnunet")
    decathlon(tmp_path / "msd")
    folders(tmp_path / "masks")
    folders(tmp_path / "labels", "labels")
    raster(tmp_path / "masks" / "overview.png")
    (tmp_path / "masks" / "PAIRS.CSV").write_text("image,label\nimages/a.png,masks/a.png\nimages/b.png,masks/b.png\n")
    description(tmp_path / "predicted", labels={"background": 0, "organ": 1})
    volume(tmp_path / "predicted" / "a.nii.gz")
    (tmp_path / "text.txt").touch()
    for name in ("nnunet", "nnunet/dataset.json", "msd", "msd/dataset.json", "masks", "labels", "masks/PAIRS.CSV"):
        assert is_dataset(tmp_path / name)
        assert open_dataset(str(tmp_path / name)).names == ("a", "b")
    for name in ("nnunet/labelsTr", "masks/images", "masks/images/a.png", "predicted", "text.txt", "nowhere"):
        assert not is_dataset(tmp_path / name)
        with pytest.raises(InputError):
            open_dataset(tmp_path / name)
    (tmp_path / "predicted" / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json is not valid JSON"):
        is_dataset(tmp_path / "predicted")


def test_unknown_layouts_say_which_are_known(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match=r"holds labels, raw, which is not a known layout; known are: .*nnU-Net raw"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="does not exist; give a folder"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "file.txt").touch()
    with pytest.raises(InputError, match=r"file\.txt is not a dataset"):
        open_dataset(tmp_path / "file.txt")


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds nothing, which is not a known layout") as failure:
        open_dataset(tmp_path)
    assert failure.value.exit_code == 2
    for name in ("images", "masks", "nnunet/imagesTr", "nnunet/labelsTr"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(InputError, match="images holds no image file") as failure:
        open_dataset(tmp_path)
    assert failure.value.exit_code == 2
    with pytest.raises(InputError, match=r"imagesTr holds no image named CASE_0000\.ext"):
        open_dataset(tmp_path / "nnunet")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="nothing holds no image file") as failure:
        open_images(tmp_path / "nothing")
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"labels": {"organ": ' + "1" * 5000 + "}}", "is not valid JSON"),
        ('{"labels": [1]}', '"labels" must map names to values'),
        ('{"labels": {"organ": "one"}}', "label 'organ' must be an integer"),
        ('{"labels": {"organ": [1, true]}}', "label 'organ' must be an integer"),
        ('{"channel_names": {"1": "T1"}}', '"channel_names" must number its names from "0" on'),
        ('{"channel_names": ["T1"]}', '"channel_names" must number its names'),
        ('{"training": [{"label": "x"}], "modality": {"0": "MRI"}}', 'each entry of "training" needs "image"'),
    ],
)
def test_a_broken_dataset_json_is_named(tmp_path, text, message):
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=rf"dataset\.json.*{message}"):
        open_dataset(tmp_path)


def test_a_description_that_is_a_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} cannot be read: Is a directory") as failure:
        read_json_object(tmp_path)
    assert failure.value.exit_code == 2


def test_image_and_mask_must_lie_on_one_grid(tmp_path):
    for name in ("a", "b"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
    volume(tmp_path / "masks" / "a.nii.gz", (4, 5, 7))
    volume(tmp_path / "masks" / "b.nii.gz", affine=np.diag([1, 1, 1.5, 1]))
    dataset = open_dataset(tmp_path)
    shape = r"masks/a\.nii\.gz has the shape \(4, 5, 7\), but .*images/a\.nii\.gz has \(4, 5, 6\)"
    with pytest.raises(InputError, match=shape) as failure:
        dataset.load(dataset.case("a"))
    assert failure.value.exit_code == 2
    spacing = r"masks/b\.nii\.gz has the spacing \(1, 1, 1\.5\), but .*images/b\.nii\.gz has \(1, 1, 1\)"
    with pytest.raises(InputError, match=spacing) as failure:
        dataset.load(dataset.case("b"))
    assert failure.value.exit_code == 2


def test_a_case_with_other_channels_is_refused(tmp_path):
    dataset = open_dataset(nnunet(tmp_path, channels=1))
    raster(tmp_path / "colour.png", (6, 5, 3))
    with pytest.raises(InputError, match=r"colour\.png: 3 channels, but 1 are needed \(mod0\)"):
        dataset.load_image(Case("colour", (tmp_path / "colour.png",), None))


def test_selecting_keeps_the_order_asked_for(tmp_path):
    dataset = open_dataset(nnunet(tmp_path, cases=("a", "b", "c")))
    assert dataset.select(["c", "a"]).names == ("c", "a")
    with pytest.raises(InputError, match=r"has no case 'x'; its cases are a, b, c"):
        dataset.select(["x"])


def test_images_to_predict(tmp_path):
    single = volume(tmp_path / "one" / "scan.nii.gz")
    assert open_images(single) == ((Case("scan", (single,), None),), ())
    channels = [volume(tmp_path / "two" / f"case_{channel:04d}.nii.gz") for channel in range(2)]
    both = ((Case("case", tuple(channels), None),), ())
    assert open_images(tmp_path / "two") == both
    assert open_images(tmp_path / "two", channels=2) == both
    assert open_images(channels[0], channels=2) == both
    missing = volume(tmp_path / "two" / "half_0000.nii.gz")
    cases, problems = open_images(tmp_path / "two", channels=2)
    assert problems == ()
    assert [case.name for case in cases] == ["case", "half"]
    assert cases[1].images == (missing, tmp_path / "two" / "half_0001.nii.gz")


def test_numbered_frames_are_not_channels(tmp_path):
    for number in range(4):
        raster(tmp_path / f"frame_{number:04d}.png")
    assert [case.name for case in open_images(tmp_path, channels=1)[0]] == [f"frame_{n:04d}" for n in range(4)]
    assert [len(case.images) for case in open_images(tmp_path, channels=3)[0]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        ("a.nii", "a.nii.gz"),
        ("a.png", "a.jpg", "a.tif"),
        ("a_0000.nii.gz", "a_0001.nii.gz", "a.nii"),
        ("a.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz"),
    ],
)
def test_inputs_of_one_name_are_left_out_and_the_others_go_on(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"a.* and .*a.* have the same case name 'a' and are left out; remove"):
        open_images(tmp_path)
    other = volume(tmp_path / "b.nii.gz")
    cases, (problem,) = open_images(tmp_path)
    assert cases == (Case("b", (other,), None),)
    assert problem.severity == "error"
    assert problem.message.startswith("and ")
    assert problem.message.endswith("have the same case name 'a' and are left out; remove or rename one")


def test_wrong_inputs_to_predict_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no image file"):
        open_images(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt is not an image file"):
        open_images(tmp_path / "notes.txt")
    raster(tmp_path / "a.png")
    raster(tmp_path / "a.bmp")
    with pytest.raises(InputError, match=r"a\.bmp and .*a\.png have the same case name"):
        open_images(tmp_path)
