"""Generated trees have the names of the published datasets, and images from which their labels can be learnt."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from deconvseg.catalog import CARDS
from deconvseg.data import list_demos, make_demo_dataset
from deconvseg.errors import InputError

_IMAGES = {".gz", ".jpg", ".png", ".bmp"}


@pytest.fixture(scope="module")
def trees(generated_trees):
    return generated_trees


def pixels(path):
    return np.asanyarray(nib.load(path).dataobj)


def hashes(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*.*")
        if path.suffix in _IMAGES
    }


@pytest.mark.parametrize("name", list_demos())
def test_the_files_are_named_as_the_card_says(trees, name):
    names = {path.relative_to(trees[name]).as_posix() for path in trees[name].rglob("*")}
    assert set(CARDS[name].tree) <= names


@pytest.mark.parametrize("name", list_demos())
def test_a_case_depends_on_its_number_and_the_seed_alone(trees, tmp_path, name):
    again = hashes(make_demo_dataset(tmp_path / "again", like=name, cases=2))
    before = hashes(trees[name])
    # Cases without a mask come after the others, and the masks of normal tissue are all alike.
    labelled = [path for path in again if "Validation" not in str(path) and "normal" not in path.parts]
    assert len(labelled) >= 2
    assert all(before[path] == again[path] for path in labelled)
    other = hashes(make_demo_dataset(tmp_path / "other", like=name, cases=2, seed=1))
    assert all(other[path] != again[path] for path in labelled)


def test_a_tree_is_not_mixed_with_other_files(trees, tmp_path):
    before = hashes(trees["isles22"])
    assert hashes(make_demo_dataset(trees["isles22"], like="isles22", cases=5)) == before
    with pytest.raises(InputError, match=r"another synthetic dataset \(isles22, 5 cases, seed 0\); give a new folder"):
        make_demo_dataset(trees["isles22"], like="isles22", cases=6)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files; give a new folder"):
        make_demo_dataset(tmp_path, like="isles22")
    with pytest.raises(InputError, match="like 'isles' is unknown: did you mean 'isles22'"):
        make_demo_dataset(tmp_path / "new", like="isles")


def test_strokes_are_bright_in_dwi_and_dark_in_adc(trees):
    for mask in sorted(trees["isles22"].rglob("*_msk.nii.gz")):
        place = mask.parents[3] / Path(*mask.parts[-3:-1]) / "dwi"
        dwi, adc = (pixels(place / mask.name.replace("msk", suffix)) for suffix in ("dwi", "adc"))
        lesion, tissue = pixels(mask) == 1, (pixels(mask) == 0) & (dwi > dwi.max() / 5)
        assert lesion.sum() >= 10
        assert np.median(dwi[lesion]) > 1.3 * np.median(dwi[tissue])
        assert np.median(adc[lesion]) < 0.8 * np.median(adc[tissue])


def test_tumours_have_an_enhancing_rim_within_an_oedema(trees):
    for mask in sorted(trees["brats23"].rglob("*-seg.nii.gz")):
        labels = pixels(mask)
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        enhanced = pixels(mask.with_name(mask.name.replace("-seg", "-t1c")))
        assert np.median(enhanced[labels == 3]) > 1.5 * np.median(enhanced[labels == 2])


def test_the_abdomen_has_thirteen_organs(trees):
    masks = sorted((trees["btcv"] / "RawData/Training/label").iterdir())
    assert len(masks) == 5
    for mask in masks:
        assert set(np.unique(pixels(mask))) == set(range(14))
        scan = pixels(mask.parents[1] / "img" / mask.name.replace("label", "img"))
        assert np.median(scan[pixels(mask) == 8]) > 130  # the aorta in the portal venous phase, in Hounsfield units
    with pytest.raises(InputError, match="cases=31: BTCV has 30 cases with masks"):
        make_demo_dataset(trees["btcv"].parent / "more", like="btcv", cases=31)


def test_glands_are_numbered_and_have_a_bright_lumen(trees):
    for mask in sorted(trees["glas"].rglob("*_anno.bmp")):
        glands = np.asarray(PIL.Image.open(mask))
        picture = np.asarray(PIL.Image.open(mask.with_name(mask.name.replace("_anno", ""))))
        assert picture.shape == (*glands.shape, 3)
        assert glands.max() >= 2
        assert np.percentile(picture[glands > 0].min(axis=1), 80) > np.percentile(picture[glands == 0].min(axis=1), 80)


def test_vessels_are_thin_and_darker_than_the_fundus_around_them(trees):
    for mask in sorted(trees["fives"].rglob("Ground truth/*.png")):
        vessels = np.asarray(PIL.Image.open(mask)) > 0
        picture = np.asarray(PIL.Image.open(mask.parents[1] / "Original" / mask.name))
        assert 0.01 < vessels.mean() < 0.2
        green, fundus = picture[..., 1], (picture[..., 0] > 60) & ~vessels
        assert np.median(green[vessels]) < 0.8 * np.median(green[fundus])


def test_breast_lesions_are_dark_and_the_fourth_benign_image_has_two(trees):
    root = trees["busi"] / "Dataset_BUSI_with_GT"
    assert [path.name for path in root.rglob("*_mask_1.png")] == ["benign (4)_mask_1.png"]
    for mask in [path for path in root.rglob("*_mask*.png") if path.parent.name != "normal"]:
        lesion = np.asarray(PIL.Image.open(mask)) > 0
        picture = np.asarray(PIL.Image.open(mask.with_name(mask.name.partition("_")[0] + ".png")))
        assert picture.shape == (*lesion.shape, 3)
        assert np.median(picture[lesion]) < 0.6 * np.median(picture[~lesion])
    assert not np.asarray(PIL.Image.open(root / "normal/normal (1)_mask.png")).any()
