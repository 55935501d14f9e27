"""Real, openly licensed datasets are read as their descriptions say."""

import json

import numpy as np
import pytest

from deconvseg.data import (
    LabelEncoding,
    check_dataset,
    count_values,
    open_dataset,
    read_image,
    read_label_map,
    read_splits,
    resolve_splits,
    write_label_map,
)
from deconvseg.errors import InputError


@pytest.fixture
def folder(real_data, request):
    path = real_data / request.param
    if not path.is_dir():
        pytest.skip(f"{request.param} is not in DECONVSEG_DATA")
    return path


def label_values(dataset, names):
    masks = [dataset.load_label(dataset.case(name)) for name in names]
    return {value for label_map in masks for value in count_values(label_map.pixels)}


@pytest.mark.parametrize("folder", ["hippocampus"], indirect=True)
def test_hippocampus(folder):
    dataset = open_dataset(folder)
    report = check_dataset(dataset, splits=resolve_splits(dataset, folder / "splits.json", fold=0))
    assert (report.layout, report.cases, report.labelled, report.channels) == ("msd", 208, 208, ("MRI",))
    assert report.splits == {"train": 133, "val": 34, "test": 41}
    assert report.spacings.median == pytest.approx((1, 1, 1))
    assert report.shapes.median == (35, 50, 36)
    assert {value: (found.name, found.voxels) for value, found in report.labels.items()} == {
        0: ("background", 12370630),
        1: ("Anterior", 357834),
        2: ("Posterior", 326948),
    }
    assert report.problems == ()


@pytest.mark.parametrize("folder", ["dsb2018"], indirect=True)
def test_dsb2018_instances_and_mixed_colour(folder):
    dataset = open_dataset(folder, foreground=True)
    chosen = dataset.select(dataset.names[::10])
    report = check_dataset(chosen)
    assert (len(dataset.cases), report.cases) == (530, 53)
    assert dataset.channel_names == ("red", "green", "blue")
    grey = sum(chosen.expands_grey(case) for case in chosen.cases)
    assert 0 < grey < 53
    assert report.notes == (f"grey images expanded to RGB: {grey}",)
    assert set(report.labels) == {0, 1}
    assert report.problems == ()
    instances = check_dataset(open_dataset(folder).select(dataset.names[:30]))
    assert ["`foreground=True`" in problem.message for problem in instances.problems] == [True]


@pytest.mark.parametrize("folder", ["chase_db1"], indirect=True)
def test_chase_db1(folder):
    dataset = open_dataset(folder)
    assert len(dataset.cases) == 28
    splits = read_splits(folder / "splits.json", dataset.names)
    assert (len(splits.train), len(splits.test)) == (20, 8)
    image, label_map = dataset.load(dataset.case("Image_01L"))
    assert (image.channels, image.shape, label_map.shape) == (3, (960, 999), (960, 999))
    assert label_values(dataset, splits.test) == {0, 1}


@pytest.mark.parametrize("folder", ["isic2017_mini"], indirect=True)
def test_isic2017_masks_match_by_their_ending(folder):
    dataset = open_dataset(folder)
    assert len(dataset.cases) == 9
    assert {case.label.name for case in dataset.cases} == {f"{name}_segmentation.png" for name in dataset.names}
    assert check_dataset(dataset).problems == ()
    assert resolve_splits(dataset, None, fold="all").test == dataset.names


@pytest.mark.parametrize("folder", ["fives20", "isic2018_256"], indirect=True)
def test_pictures_of_the_papers_are_read_in_folders_and_as_they_are_published(folder, tmp_path):
    stored = open_dataset(folder)
    assert (stored.layout, len(stored.labelled_names)) == ("folders", len(list((folder / "images").iterdir())))
    vessels = folder.name == "fives20"
    places = ("train/Original/{}.png", "train/Ground truth/{}.png")
    if not vessels:
        places = (
            "ISIC2018_Task1-2_Training_Input/{}.jpg",
            "ISIC2018_Task1_Training_GroundTruth/{}_segmentation.png",
        )
    for case in stored.cases[:2]:
        for file, place in zip((case.images[0], case.label), places, strict=True):
            path = tmp_path / place.format(case.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(file)
    published = open_dataset(tmp_path)
    assert (published.layout, published.channel_names) == (folder.name[:5] if vessels else "isic", stored.channel_names)
    for case, same in zip(published.cases, stored.cases, strict=False):
        assert case.name == (f"train_{same.name}" if vessels else same.name)
        image, label = published.load(case)
        assert np.array_equal(image.pixels, stored.load_image(same).pixels)
        assert np.array_equal(label.pixels > 0, stored.load_label(same).pixels > 0)
    labels = check_dataset(published).labels
    assert labels[1].name == ("vessel" if vessels else "lesion")
    assert labels[1].cases == 2


@pytest.mark.parametrize("folder", ["ms_lesion_mni"], indirect=True)
def test_ms_lesions_through_a_csv(folder, tmp_path):
    channels = ("FLAIR", "T1", "T1POST", "T2")
    header = "case," + ",".join(f"image_{number}" for number in range(4)) + ",label"
    rows = [
        ",".join(
            [
                name,
                *(str(folder / f"{name}_{channel}.nii.gz") for channel in channels),
                str(folder / f"{name}_seg.nii.gz"),
            ]
        )
        for name in ("patient07", "patient19", "patient26")
    ]
    (tmp_path / "ms.csv").write_text("\n".join([header, *rows]))
    dataset = open_dataset(tmp_path / "ms.csv")
    splits = read_splits(folder / "splits.json", dataset.names)
    assert (splits.train, splits.val, splits.test) == (("patient19",), ("patient26",), ("patient07",))
    for name, lesion in (("patient07", 1300), ("patient19", 49769), ("patient26", 8227)):
        image, label_map = dataset.load(dataset.case(name))
        assert image.channels == 4
        assert int(label_map.pixels.sum()) == lesion
        assert label_map.pixels.max() == 1


@pytest.mark.parametrize("folder", ["isles22_case0009"], indirect=True)
def test_unregistered_channels_are_refused_and_a_mask_goes_back_exactly(folder, tmp_path):
    stem = "sub-strokecase0009_ses-0001"
    dwi, flair, mask = (folder / f"{stem}_{kind}.nii.gz" for kind in ("dwi", "flair", "msk"))
    with pytest.raises(InputError, match=r"flair\.nii\.gz has the shape \(512, 512, 29\), but .*\(112, 112, 73\)"):
        read_image([dwi, flair])
    label_map = read_label_map(mask)
    assert int((label_map.pixels == 1).sum()) == 523
    write_label_map(label_map, tmp_path / "copy.nii.gz", like=dwi)
    copy = read_label_map(tmp_path / "copy.nii.gz")
    assert np.array_equal(copy.pixels, label_map.pixels)
    assert copy.geometry.matches(read_image(dwi).geometry, tolerance=1e-6)


@pytest.mark.parametrize("folder", ["isles22_case0009"], indirect=True)
def test_a_case_of_isles22_is_read_in_place(folder):
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.channel_names) == ("isles22", ("DWI", "ADC"))
    image, label_map = dataset.load(dataset.case("sub-strokecase0009_ses-0001"))
    assert image.pixels.shape == (2, 112, 112, 73)
    assert int((label_map.pixels == 1).sum()) == 523
    assert any("1 FLAIR scan on other grids" in problem.message for problem in dataset.problems)


@pytest.mark.parametrize("folder", ["sstem_vnc"], indirect=True)
def test_an_unknown_layout_is_refused_and_its_csv_is_read(folder, tmp_path):
    with pytest.raises(InputError, match=r"holds .*labels, membranes, mitochondria, raw.*not a known layout"):
        open_dataset(folder)
    rows = [f"{folder}/raw/{number:02d}.png,{folder}/labels/{number:02d}.png" for number in range(20)]
    (tmp_path / "vnc.csv").write_text("\n".join(["image,label", *rows]))
    dataset = open_dataset(tmp_path / "vnc.csv")
    splits = read_splits(folder / "splits.json", dataset.names)
    values = label_values(dataset, splits.test)
    assert values == {0, 1, 2, 3, 4}
    encoding = LabelEncoding.from_values(values)
    label_map = dataset.load_label(dataset.case("16"))
    assert np.array_equal(encoding.decode(encoding.encode(label_map.pixels)), label_map.pixels)


@pytest.mark.parametrize("folder", ["fives20"], indirect=True)
def test_fives(folder):
    dataset = open_dataset(folder)
    image, label_map = dataset.load(dataset.case("30_A"))
    assert (image.channels, image.shape) == (3, (1024, 1024))
    assert len(np.unique(label_map.pixels)) == 2
    assert json.loads((folder / "splits.json").read_text())["test"] == list(
        resolve_splits(dataset, None, fold="all").test
    )


@pytest.mark.parametrize("folder", ["sstem_vnc"], indirect=True)
def test_folders_of_two_classes_are_one_mask_by_their_patterns(folder):
    patterns = {"membrane": "membranes/*.png", "mitochondrion": "mitochondria/*.png"}
    dataset = open_dataset(folder, image="raw/*.png", mask=patterns)
    assert (len(dataset.cases), dataset.splits_file) == (20, folder / "splits.json")
    assert dataset.label_names == {0: "background", 1: "membrane", 2: "mitochondrion"}
    found = dataset.load_label(dataset.case("16")).pixels
    first, second = (read_label_map(folder / name / "16.png").pixels > 0 for name in ("membranes", "mitochondria"))
    assert np.array_equal(found == 2, second)
    assert np.array_equal(found == 1, first & ~second)
    (told,) = dataset.problems
    assert "holds 20 image files that no pattern matches (labels/00.png" in told.message


@pytest.mark.parametrize("folder", ["ms_lesion_mni"], indirect=True)
def test_channels_beside_each_other_are_one_case_by_their_patterns(folder):
    with pytest.raises(InputError, match=r"try `image=\['FLAIR=\*_FLAIR.nii.gz', .*'T2=\*_T2.nii.gz'\]` `mask='\*_seg"):
        open_dataset(folder)
    channels = {name: f"*_{name}.nii.gz" for name in ("T1", "FLAIR")}
    dataset = open_dataset(folder, image=channels, mask="*_seg.nii.gz", labels=["1=lesion"], exclude=["patient19"])
    assert (dataset.names, dataset.channel_names) == (("patient07", "patient26"), ("T1", "FLAIR"))
    assert [path.name for path in dataset.case("patient26").images] == [
        "patient26_T1.nii.gz",
        "patient26_FLAIR.nii.gz",
    ]
    image, labels = dataset.load(dataset.case("patient26"))
    assert image.channels == 2
    assert set(np.unique(labels.pixels)) == {0, 1}
