"""nnU-Net's own check of a dataset accepts what is converted, and reads the same voxels.

It needs the packages nnunetv2, batchgenerators, acvl_utils, scikit-image, imageio, lazy_loader and pandas, installed
without their dependencies (`pip install --no-deps --target FOLDER`, with `PYTHONPATH=FOLDER` or in `.venv/peers`).
"""

import json
import os
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from deconvseg.data import Geometry, LabelMap, convert, open_dataset, write_label_map

_PEERS = str(Path(sys.prefix) / "peers")


@pytest.fixture(scope="module")
def nnunet():
    """The modules of nnU-Net that check and read datasets."""
    sys.path.append(_PEERS)
    before = os.environ.copy()
    try:
        from nnunetv2.experiment_planning import verify_dataset_integrity
        from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
        from nnunetv2.utilities import utils
    except ImportError as error:
        pytest.skip(f"nnU-Net cannot be imported ({error})")
    finally:
        sys.path.remove(_PEERS)
        # It sets variables of the process.
        os.environ.clear()
        os.environ.update(before)
    return SimpleNamespace(
        checks=verify_dataset_integrity, utils=utils, choose_reader=determine_reader_writer_from_dataset_json
    )


@pytest.fixture
def verify(nnunet, monkeypatch, capfd):
    """nnU-Net's check, in threads instead of processes; it must not print an error or a warning."""
    threads = SimpleNamespace(Pool=ThreadPool)
    monkeypatch.setattr(nnunet.checks, "multiprocessing", SimpleNamespace(get_context=lambda _: threads))
    monkeypatch.setattr(nnunet.utils, "Pool", lambda processes: ThreadPool(2))

    def check(folder):
        nnunet.checks.verify_dataset_integrity(str(folder), 2)
        printed = capfd.readouterr().out
        assert "verify_dataset_integrity Done" in printed
        assert not [word for word in ("Error:", "Warning:", "WARNING", "Failed") if word in printed], printed

    return check


def check_voxels(nnunet, source, folder):
    """Compare the image of each training case that nnU-Net reads, (C, Z, Y, X) or (C, 1, H, W), with the source."""
    record = json.loads((folder / "dataset.json").read_text())
    files = nnunet.utils.get_filenames_of_train_images_and_targets(str(folder), record)
    for name, found in files.items():
        reader = nnunet.choose_reader(record, found["images"][0], verbose=False)()
        pixels, _ = reader.read_images(found["images"])
        image = source.load_image(source.case(name)).pixels
        image = image.transpose(0, 3, 2, 1) if image.ndim == 4 else image[:, None]
        np.testing.assert_array_equal(pixels, image)


@pytest.mark.parametrize("name", ["isic", "busi", "isles22", "brats23"])
def test_it_accepts_published_trees(nnunet, verify, generated_trees, tmp_path, name):
    source = open_dataset(generated_trees[name])
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    verify(done.folder)
    check_voxels(nnunet, source, done.folder)


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("regions", [False, True])
def test_it_accepts_regions_and_ignored_voxels_from_any_format(nnunet, verify, tmp_path, suffix, regions):
    rng = np.random.default_rng(0)
    affine = np.array([[0, -1.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    for name in "ab":
        scan = rng.normal(size=(5, 6, 4)).astype(np.float32)
        mask = rng.choice([0, 2, 5, 9, 255], (5, 6, 4)).astype(np.uint8)
        nib.save(nib.Nifti1Image(scan, affine), tmp_path / f"{name}.nii")
        nib.save(nib.Nifti1Image(mask, affine), tmp_path / f"{name}_seg.nii")
        if suffix != ".nii":
            import SimpleITK as sitk  # noqa: N813

            for part in ("", "_seg"):
                sitk.WriteImage(sitk.ReadImage(tmp_path / f"{name}{part}.nii"), tmp_path / f"{name}{part}{suffix}")
    rows = [f"{name}{suffix},{name}_seg{suffix}" for name in "ab"]
    (tmp_path / "cases.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    labels = ["whole=2,5", "inner=5", "255=ignore", "9=vessel"] if regions else ["2=a", "5=b", "9=c", "255=ignore"]
    source = open_dataset(tmp_path / "cases.csv", labels=labels)
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    verify(done.folder)
    check_voxels(nnunet, source, done.folder)


@pytest.mark.parametrize("kind", ["16 bits", "spacing", "sheared"])
def test_it_accepts_other_depths_and_axes(nnunet, verify, tmp_path, kind):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 60_000, (9, 7)).astype(np.uint16)
    labels = (numbers > 30_000).astype(np.uint8)
    if kind == "16 bits":
        PillowImage.fromarray(numbers).save(tmp_path / "a.png")
        PillowImage.fromarray(255 * labels).save(tmp_path / "m.png")
    elif kind == "spacing":
        geometry = Geometry(np.diag([0.5, 0.25, 1.0]))
        for name, pixels in (("a", numbers), ("m", labels)):
            write_label_map(LabelMap(pixels, geometry), tmp_path / f"{name}.mha")
    else:
        affine = np.array([[1, 0.2, 0, 5], [0, 1.0, 0, 2], [0, 0, 2, 1], [0, 0, 0, 1]])
        for name, pixels in (("a", numbers), ("m", labels)):
            nib.save(nib.Nifti1Image(np.stack([pixels, pixels], axis=2), affine), tmp_path / f"{name}.nii.gz")
    ending = {"16 bits": ".png", "spacing": ".mha", "sheared": ".nii.gz"}[kind]
    (tmp_path / "cases.csv").write_text(f"image,label\na{ending},m{ending}\n")
    source = open_dataset(tmp_path / "cases.csv")
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    verify(done.folder)
    check_voxels(nnunet, source, done.folder)


def test_it_refuses_what_is_not_converted(nnunet, verify, balls):
    with pytest.raises(AssertionError, match="Labels must be in consecutive order"):
        verify(balls)
