"""Folders as they lie: images and masks told apart, paired and united by patterns of their names."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import check_dataset, open_dataset, record_dataset
from deconvseg.data.layouts.pattern import Pattern
from deconvseg.data.layouts.proposing import propose_patterns
from deconvseg.errors import InputError

TEXTS = st.text("ab1_-. ", max_size=4)
PARTS = st.lists(st.sampled_from(["*", "?", "**/", "a", "b", "_", "1", "/"]), min_size=1, max_size=6)


def picture(path, *boxes, shape=(8, 8), value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(shape, np.uint8)
    for box in boxes:
        pixels[box] = value
    PIL.Image.fromarray(pixels).save(path)


def volume(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((4, 5, 6), np.uint8)
    pixels[1:3, 1:3, 1:3] = value
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), path)


LEFT, RIGHT, INNER = np.s_[1:3, 1:3], np.s_[5:7, 5:7], np.s_[2:3, 2:4]


def ultrasound(root):
    for kind in ("cyst", "tumour"):
        for number in (1, 2, 10):
            picture(root / kind / f"{kind} ({number}).png", LEFT, value=90 + number)
            picture(root / kind / f"{kind} ({number})_mask.png", LEFT)
        picture(root / kind / f"{kind} (1)_mask_1.png", RIGHT)
    return root


def isic(root):
    for number in range(4):
        picture(root / f"ISIC_{number:07}.jpg", LEFT)
        picture(root / f"ISIC_{number:07}_segmentation.png", LEFT)
    return root


def drive(root):
    for number in (21, 22):
        picture(root / f"{number}_training.tif", LEFT)
        picture(root / f"{number}_manual1.gif", LEFT)
    return root


def acdc(root):
    for name in ("patient001/patient001_frame01", "patient001/patient001_frame12", "patient002/patient002_frame01"):
        volume(root / f"{name}.nii.gz", 90)
        volume(root / f"{name}_gt.nii.gz")
    return root


def channels(root):
    for name in ("p1", "p2"):
        for part in ("FLAIR", "T1", "T1POST"):
            volume(root / f"{name}_{part}.nii.gz", 90)
        volume(root / f"{name}_seg.nii.gz")
    return root


def apart(root):
    for name in ("a", "b"):
        picture(root / "Training_Input" / f"{name}.jpg", LEFT)
        picture(root / "Training_GroundTruth" / f"{name}_segmentation.png", LEFT)
    return root


DATASETS = {
    ultrasound: ("**/*.png", "**/*_mask*.png", ["cyst (1)", "cyst (10)", "cyst (2)", "tumour (1)"]),
    isic: ("*.jpg", "*_segmentation.png", ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002", "ISIC_0000003"]),
    drive: ("*_training.tif", "*_manual1.gif", ["21", "22"]),
    acdc: ("**/*.nii.gz", "**/*_gt.nii.gz", ["patient001_frame01", "patient001_frame12", "patient002_frame01"]),
    channels: (
        ["FLAIR=*_FLAIR.nii.gz", "T1=*_T1.nii.gz", "T1POST=*_T1POST.nii.gz"],
        "*_seg.nii.gz",
        ["p1", "p2"],
    ),
    apart: ("Training_Input/*.jpg", "Training_GroundTruth/*_segmentation.png", ["a", "b"]),
}


@pytest.mark.parametrize("make", DATASETS, ids=lambda make: make.__name__)
def test_the_error_for_a_plain_folder_proposes_the_patterns_that_open_it(tmp_path, make):
    make(tmp_path)
    image, mask, names = DATASETS[make]
    proposed = f"`image={image!r}` `mask={mask!r}`"
    assert propose_patterns(tmp_path) == proposed
    with pytest.raises(InputError, match=rf"not a known layout; try {re.escape(proposed)}$"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, image=image, mask=mask)
    assert list(dataset.names)[: len(names)] == names
    assert dataset.labelled_names == dataset.names
    assert not (*dataset.problems, *check_dataset(dataset).errors)
    expected = [text.partition("=")[0] for text in image] if isinstance(image, list) else None
    assert expected is None or list(dataset.channel_names) == expected


def test_several_masks_of_a_case_are_united_and_counted(tmp_path):
    dataset = open_dataset(ultrasound(tmp_path), image="**/*.png", mask="**/*_mask*.png")
    case = dataset.case("cyst (1)")
    assert [path.name for path in case.mask_files] == ["cyst (1)_mask.png", "cyst (1)_mask_1.png"]
    expected = np.zeros((8, 8), np.uint8)
    expected[LEFT], expected[RIGHT] = 255, 255
    assert (dataset.load(case)[1].pixels == expected).all()
    assert [path.name for path in dataset.case("cyst (10)").mask_files] == ["cyst (10)_mask.png"]
    assert "2 of 6 masks are united from several files: cyst (1), tumour (1)" in check_dataset(dataset).notes
    assert {name for name in record_dataset(dataset)["data"] if "(1)" in name} == {
        f"{kind}/{kind} (1){end}.png" for kind in ("cyst", "tumour") for end in ("", "_mask", "_mask_1")
    }


def test_a_file_of_each_class_is_painted_in_the_order_of_the_patterns(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", LEFT)
        picture(tmp_path / f"{name}_org.png", LEFT)
        picture(tmp_path / f"{name}_les.png", INNER)
    (tmp_path / "b_les.png").unlink()
    organ, lesion = np.zeros((2, 8, 8), bool)
    organ[LEFT], lesion[INNER] = True, True
    for order in (("organ=*_org.png", "lesion=*_les.png"), ("lesion=*_les.png", "organ=*_org.png")):
        dataset = open_dataset(tmp_path, image="*.png", mask=order)
        names = {name: value for value, name in dataset.label_names.items()}
        first, second = (text.partition("=")[0] for text in order)
        assert (names[first], names[second]) == (1, 2)
        expected = np.zeros((8, 8))
        for name in (first, second):
            expected[organ if name == "organ" else lesion] = names[name]
        assert (dataset.load(dataset.case("a"))[1].pixels == expected).all()
        report = check_dataset(dataset)
        assert report.labels[names["lesion"]].cases == 1
        (note,) = report.notes
        assert note.startswith("classes overlap in 1 of 2 masks, 1 voxels: the one that is named later (`mask`) is")
    given = open_dataset(tmp_path, image="*.png", mask=order, labels=["7=organ:#ff0000", "3=lesion", "all=3,7"])
    assert given.label_names == {0: "background", 3: "lesion", 7: "organ"}
    assert given.regions[0].labels == (3, 7)
    with pytest.raises(InputError, match="the class lesion is not among the labels organ"):
        open_dataset(tmp_path, image="*.png", mask=order, labels=["1=organ"])


def test_what_a_pattern_ignores_is_the_ignore_label(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", LEFT)
        picture(tmp_path / f"{name}_org.png", LEFT)
        picture(tmp_path / f"{name}_void.png", RIGHT)
    dataset = open_dataset(tmp_path, image="*.png", mask={"organ": "*_org.png", "ignore": "*_void.png"})
    assert (dataset.label_names, dataset.ignore_label) == ({0: "background", 1: "organ"}, 2)
    assert np.unique(dataset.load(dataset.cases[0])[1].pixels).tolist() == [0, 1, 2]


def test_files_of_different_labels_in_one_place_are_refused(tmp_path):
    picture(tmp_path / "a.png", LEFT)
    picture(tmp_path / "a_mask.png", LEFT, value=1)
    picture(tmp_path / "a_mask2.png", INNER, value=2)
    dataset = open_dataset(tmp_path, image="*.png", mask="*_mask*.png")
    with pytest.raises(
        InputError, match=r"a_mask2.png has the label 2 in 1 voxels where another mask of its case has 1"
    ):
        dataset.load(dataset.cases[0])
    picture(tmp_path / "a_mask2.png", RIGHT, value=2)
    assert np.unique(dataset.load(dataset.cases[0])[1].pixels).tolist() == [0, 1, 2]
    picture(tmp_path / "a_mask2.png", RIGHT, shape=(9, 9))
    with pytest.raises(InputError, match=r"a_mask2.png has the shape \(9, 9\), but .*a_mask.png has \(8, 8\)"):
        dataset.load(dataset.cases[0])


def test_what_has_no_partner_and_what_is_left_out_are_named(tmp_path):
    isic(tmp_path)
    picture(tmp_path / "ISIC_0000009_segmentation.png", LEFT)
    picture(tmp_path / "ISIC_0000003_superpixels.png", LEFT)
    (tmp_path / "ISIC_0000002_segmentation.png").unlink()
    dataset = open_dataset(tmp_path, image="*.jpg", mask="*_segmentation.png")
    told = {(problem.severity, Path(problem.file).name, problem.message) for problem in dataset.problems}
    assert told == {
        ("error", "ISIC_0000002.jpg", "has no mask that the pattern matches"),
        ("warning", "ISIC_0000009_segmentation.png", "is a mask without an image"),
        (
            "warning",
            tmp_path.name,
            "holds 1 image file that no pattern matches (ISIC_0000003_superpixels.png), left out",
        ),
    }
    assert "ISIC_0000002" not in dataset.labelled_names


def test_a_case_without_a_channel_is_left_out(tmp_path):
    (channels(tmp_path) / "p2_T1.nii.gz").unlink()
    dataset = open_dataset(tmp_path, image={"t1": "*_T1.nii.gz", "flair": "*_FLAIR.nii.gz"}, mask="*_seg.nii.gz")
    assert (dataset.names, dataset.channel_names) == (("p1",), ("t1", "flair"))
    (error, *_) = [problem for problem in dataset.problems if problem.severity == "error"]
    assert (Path(error.file).name, error.message) == ("p2_FLAIR.nii.gz", "has no t1 next to it and is left out")


def test_of_several_images_the_longest_name_is_the_mask_s(tmp_path):
    for name in ("a", "a_1", "a_1_2"):
        picture(tmp_path / "i" / f"{name}.png", LEFT)
    picture(tmp_path / "m" / "a_1_2_mask.png", LEFT)
    picture(tmp_path / "m" / "a_1_mask.png", LEFT)
    dataset = open_dataset(tmp_path, image="i/*.png", mask="m/*_*.png")
    assert {case.name: [path.name for path in case.mask_files] for case in dataset.cases} == {
        "a": [],
        "a_1": ["a_1_mask.png"],
        "a_1_2": ["a_1_2_mask.png"],
    }


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (None, "*_mask.png", "`mask` without `image`"),
        (
            "*.tif",
            "*_mask.png",
            r"no file matches '\*.tif' \(`image`\); it holds ISIC_0000000.jpg, .*; try `image='\*.jpg'",
        ),
        ("*.jpg", "*_mask.png", r"no file matches '\*_mask.png' \(`mask`\); it holds"),
        ("*.png", "*_segmentation.png", r"every file that '\*.png' \(`image`\) matches is a mask by `mask`"),
        ("*.png", "*.png", r"`image` and `mask` are both '\*.png'"),
        ("*.jpg", ["a=*_segmentation.png", "*.png"], "`mask`: some patterns have a name and others none"),
        (
            "ISIC_*0*.jpg",
            "*_segmentation.png",
            "`mask='\\*_segmentation.png'` has 1 wildcards, but the images' .* has 2",
        ),
        ("*.jpg", "*?_segmentation.png", r"`mask='\*\?_segmentation.png'` does not say where the name of a case ends"),
        (["a=*.jpg", "b=*/*.jpg"], "*.png", r"`image`: '\*.jpg' has 1 wildcards and '\*/\*.jpg' 2"),
        ("scan.png", "*.png", r"`image='scan.png'`: has no \*"),
        ("/data/*.png", "*.png", "a pattern is relative to the dataset's folder"),
        ("../*.png", "*.png", "a pattern is relative to the dataset's folder"),
        ("a**.png", "*.png", r"\*\* matches folders"),
        ("", "*.png", "give a pattern of file names"),
        (
            "I*.jpg",
            "*_segmentation.png",
            "no image has a mask: ISIC_0000000.jpg and ISIC_0000000_segmentation.png differ",
        ),
        ("*.jpg", "background=*_segmentation.png", "the background needs no mask"),
        ("*.jpg", "a,b=*_segmentation.png", "the name 'a,b' has a ','"),
    ],
)
def test_patterns_that_do_not_go_together_are_refused_in_one_line(tmp_path, image, mask, message):
    with pytest.raises(InputError, match=message) as error:
        open_dataset(isic(tmp_path), image=image, mask=mask)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="is not a folder; patterns"):
        open_dataset(tmp_path / "ISIC_0000000.jpg", image="*.jpg", mask="*.png")


@given(PARTS, st.lists(TEXTS, min_size=8, max_size=8))
def test_a_pattern_gives_back_what_was_put_in_for_its_wildcards(parts, texts):
    text = "".join(parts)
    try:
        pattern = Pattern.parse(text, "image")
    except InputError:
        return
    if text.endswith("*"):
        return  # leaves the ending open
    found = re.findall(r"\*\*/|\*|\?", text)
    put = [
        {"*": t, "?": (t or "x")[0], "**/": f"{t or 'd'}/" if len(t) % 2 else ""}[w]
        for w, t in zip(found, texts, strict=False)
    ]
    path = text
    for wildcard, filled in zip(found, put, strict=True):
        path = path.replace(wildcard, f"\0{filled}\1", 1)
    path = path.replace("\0", "").replace("\1", "")
    assert pattern.wildcards == len(found)
    assert pattern.matches(path)
    assert tuple(put) in set(pattern.texts(path))
    assert all(len(way) == len(found) for way in pattern.texts(path))


def test_a_file_of_labels_in_the_folder_gives_the_classes_of_the_patterns_their_values(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", LEFT)
        picture(tmp_path / f"{name}_org.png", LEFT)
        picture(tmp_path / f"{name}_les.png", RIGHT)
    (tmp_path / "labels.json").write_text('{"1": "lesion", "4": {"name": "organ", "colour": "#00ff00"}}')
    dataset = open_dataset(tmp_path, image="*.png", mask={"organ": "*_org.png", "lesion": "*_les.png"})
    assert dataset.label_names == {0: "background", 1: "lesion", 4: "organ"}
    assert dataset.label_colours == {"organ": "#00ff00"}
    pixels = dataset.load(dataset.cases[0])[1].pixels
    assert set(pixels[LEFT].ravel()) == {4}
    assert set(pixels[RIGHT].ravel()) == {1}
