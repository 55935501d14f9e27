"""What one case of a folder to predict is, what it is called, and which files are none."""

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import open_images
from deconvseg.errors import InputError


def raster(path, shape=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    return path


def volume(path, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    return path


def names(path, **options):
    return [case.name for case in open_images(path, **options)[0]]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [3, None])
def test_colour_photographs_are_never_channels(tmp_path, count, channels):
    for number in range(count):
        raster(tmp_path / f"IMG_{number:04d}.png", (6, 5, 3))
    assert names(tmp_path, channels=channels) == [f"IMG_{number:04d}" for number in range(count)]


def test_single_channels_on_one_grid_are_one_case(tmp_path):
    for number in range(3):
        raster(tmp_path / "grey" / f"a_{number:04d}.png")
        raster(tmp_path / "sizes" / f"a_{number:04d}.png", (6 + number, 5))
    assert names(tmp_path / "grey", channels=3) == ["a"]
    assert names(tmp_path / "sizes", channels=3) == ["a_0000", "a_0001", "a_0002"]


@pytest.mark.parametrize("make", [raster, volume])
@pytest.mark.parametrize(
    ("folder", "files", "expected"),
    [
        ("scans", ["patient_0000"], ["patient_0000"]),
        ("imagesTs", ["patient_0000"], ["patient"]),
        ("scans", ["a_0000", "b_0000"], ["a", "b"]),
        ("scans", ["a_0000", "b_0000", "c"], ["a_0000", "b_0000", "c"]),
        ("scans", ["a_0000", "a_0005"], ["a_0000", "a_0005"]),
    ],
)
def test_a_file_has_the_same_name_alone_and_in_its_folder(tmp_path, make, folder, files, expected):
    ending = ".png" if make is raster else ".nii.gz"
    paths = [make(tmp_path / folder / f"{name}{ending}") for name in files]
    assert names(tmp_path / folder, channels=1) == expected
    assert [names(path, channels=1) for path in paths] == [[name] for name in expected]


def test_any_channel_stands_for_its_case(tmp_path):
    paths = [volume(tmp_path / f"a_{number:04d}.nii.gz") for number in range(2)]
    for path in paths:
        ((case,), problems) = open_images(path, channels=2)
        assert (case.name, case.images, problems) == ("a", tuple(paths), ())


def test_several_channels_are_refused_where_the_network_takes_one(tmp_path):
    for name in "ab":
        for number in range(2):
            volume(tmp_path / "two" / f"{name}_{number:04d}.nii.gz")
    with pytest.raises(InputError, match=r"holds 2 channels of each case by their names \(a_0000\.nii\.gz, a_0001"):
        open_images(tmp_path / "two", channels=1)
    for number in range(2):
        volume(tmp_path / "one" / f"a_{number:04d}.nii.gz")
    cases, (problem,) = open_images(tmp_path / "one", channels=1)
    assert len(cases) == 2
    assert problem.message == "a_0000.nii.gz, a_0001.nii.gz are taken for 2 cases: the network takes one channel"


@pytest.mark.parametrize(
    "ending", ["_mask", "_seg", "_label", "_segmentation", "-mask", " mask", "_mask_1", "_GT", ".seg"]
)
def test_masks_beside_their_images_are_left_out(tmp_path, ending):
    for name in ("benign (1)", "b"):
        raster(tmp_path / f"{name}.jpg")
        raster(tmp_path / f"{name}{ending}.png")
    cases, (problem,) = open_images(tmp_path)
    assert [case.name for case in cases] == ["b", "benign (1)"]
    assert problem.severity == "warning"
    assert problem.message.startswith("holds 2 files named as masks of others (b")


@pytest.mark.parametrize(
    "name", ["mask_{}", "seg-{}", "Label {}", "ground_truth_{}", "{}_groundtruth", "{}_annotation"]
)
def test_masks_named_in_other_ways_are_left_out_where_their_image_is_there(tmp_path, name):
    for number in range(2):
        for stem in (f"im{number}", name.format(f"im{number}")):
            raster(tmp_path / f"{stem}.png")
    raster(tmp_path / f"{name.format('other')}.png")
    cases, problems = open_images(tmp_path, channels=1)
    assert {case.name for case in cases} == {"im0", "im1", name.format("other")}
    (problem,) = problems
    assert problem.message.startswith("holds 2 files named as masks of others")


def test_masks_beside_channels_are_left_out_and_masks_alone_are_images(tmp_path):
    for name in ("t_0000", "t_0001", "t_seg", "u_flair", "u_seg", "v_seg"):
        volume(tmp_path / f"{name}.nii.gz")
    cases, _ = open_images(tmp_path, channels=2)
    assert [case.name for case in cases] == ["t", "u_flair", "v_seg"]


@given(st.text("ab _-'\"[]()%.,#\n", min_size=1, max_size=12).filter(lambda name: name.strip(". ") and name[0] != "."))
def test_any_name_is_a_case_of_its_own_name(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    path = raster(folder / f"{name}.PNG")
    assert names(folder) == names(path) == [name]


def test_composed_and_decomposed_letters_are_one_name(tmp_path):
    path = raster(tmp_path / "Mu\u0308ller.png")
    assert names(tmp_path) == names(path) == ["M\u00fcller"]


def test_more_channel_files_than_the_network_takes_are_refused_and_none_is_dropped(tmp_path):
    for case in ("a", "b"):
        for number in range(3):
            volume(tmp_path / f"{case}_{number:04d}.nii.gz")
    assert names(tmp_path, channels=3) == ["a", "b"]
    for given_path in (tmp_path, tmp_path / "a_0000.nii.gz"):
        with pytest.raises(InputError, match="holds 3 channels of case a .*but the network takes 2"):
            open_images(given_path, channels=2)
