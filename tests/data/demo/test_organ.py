"""The synthetic set is the same at every call, sound, varied, and neither trivial nor hopeless."""

import hashlib

import nibabel as nib
import numpy as np
import pytest

from deconvseg.data import check_dataset, make_demo_dataset, open_dataset, resolve_splits
from deconvseg.errors import InputError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_dataset(tmp_path_factory.mktemp("demo"), cases=10)


def hashes(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_writes_the_same_bytes(demo, tmp_path):
    again = hashes(make_demo_dataset(tmp_path / "again", cases=10))
    assert again == hashes(demo)
    other = hashes(make_demo_dataset(tmp_path / "other", cases=5, seed=1))
    assert all(other[name] != again[name] for name in other if name.endswith(".nii.gz"))


def test_it_is_not_mixed_with_other_files(demo, tmp_path):
    before = hashes(demo)
    assert hashes(make_demo_dataset(demo, cases=10)) == before
    with pytest.raises(InputError, match=r"holds the synthetic dataset of 10 cases; give a new folder"):
        make_demo_dataset(demo, cases=5)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files; give a new folder, or remove it"):
        make_demo_dataset(tmp_path, cases=5)
    with pytest.raises(InputError, match=r"thesis.txt is a file; give a folder"):
        make_demo_dataset(tmp_path / "thesis.txt", cases=5)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_case_depends_on_its_number_alone(demo, tmp_path):
    fewer = hashes(make_demo_dataset(tmp_path, cases=5))
    volumes = [name for name in fewer if name.endswith(".nii.gz")]
    assert len(volumes) == 10
    assert all(hashes(demo)[name] == fewer[name] for name in volumes)


def test_the_check_finds_no_problem(demo):
    dataset = open_dataset(demo)
    report = check_dataset(dataset, splits=resolve_splits(dataset, None, fold="all"))
    assert report.problems == ()
    assert report.layout == "nnunet"
    assert report.splits == {"train": 8, "val": 0, "test": 2}
    assert [found.cases for found in report.labels.values()] == [10, 10, 10]
    assert {value: found.name for value, found in report.labels.items()} == {0: "background", 1: "organ", 2: "lesion"}


def test_shapes_orientations_and_headers_vary(demo):
    volumes = [nib.load(path) for path in sorted((demo / "imagesTr").iterdir())]
    assert len({volume.shape for volume in volumes}) > 5
    assert {nib.aff2axcodes(volume.affine) for volume in volumes} >= {("R", "A", "S"), ("L", "P", "S"), ("P", "I", "R")}
    # With as many test cases as orientations, training and test scans have the same ones.
    in_test = {nib.aff2axcodes(volume.affine) for volume in volumes[4::5]}
    in_training = {nib.aff2axcodes(volume.affine) for number, volume in enumerate(volumes) if number % 5 != 4}
    assert len(in_test) == 2
    assert in_test <= in_training
    for volume in volumes:
        assert sorted(volume.header.get_zooms()) == pytest.approx([1.0, 1.0, 1.5])


def test_lesions_lie_in_the_organ_and_intensity_alone_does_not_find_them(demo):
    from scipy import ndimage

    dataset = open_dataset(demo)
    best = []
    for case in dataset.cases:
        image, label_map = dataset.load(case)
        lesion, organ = label_map.pixels == 2, label_map.pixels > 0
        assert lesion.sum() >= 30
        around = ndimage.binary_dilation(lesion) & ~lesion
        assert (label_map.pixels[around] == 1).mean() > 0.5
        assert 0.02 < organ.mean() < 0.3
        thresholds = np.quantile(image.pixels, np.linspace(0.5, 0.99, 30))
        found = [image.pixels[0] > threshold for threshold in thresholds]
        best.append(max(2 * (organ & mask).sum() / (organ.sum() + mask.sum()) for mask in found))
    assert np.mean(best) < 0.85  # the best threshold of each case, chosen with the truth at hand
