"""Masks come back in the format of their images, with their grid; what has one name twice is left out, not the rest."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
import torch

from deconvseg.data import bids_mask_paths, open_dataset, read_label_map
from deconvseg.errors import InputError
from deconvseg.inference import predict
from deconvseg.models import create_model
from deconvseg.runs import Run
from plans import tiny_plan


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An untrained 3D run: enough to see where voxels go."""
    config = {"in_channels": 1, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    plan = tiny_plan(
        spatial_dims=3,
        spacing=[1.0, 1.0, 1.0],
        patch_size=[8, 8, 8],
        labels={"values": [0, 5, 300], "names": ["background", "a", "b"]},
        model={"name": "deconver", "config": config},
    )
    made = Run.create(tmp_path / "run", plan, {}, {"train": [], "val": [], "test": []})
    torch.manual_seed(0)
    made.save_weights(create_model("deconver", **plan.model.config).state_dict())
    return tmp_path / "run"


def save(path: Path, seed: int = 0) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=(5, 8, 9)).astype(np.float32))
    image.SetSpacing((1.0, 1.2, 2.5))
    image.SetOrigin((10.0, -5.0, 7.0))
    image.SetDirection((0.0, -0.8, 0.6, 1.0, 0.0, 0.0, 0.0, 0.6, 0.8))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def test_every_format_gives_the_same_mask_on_the_grid_of_its_image(tmp_path: Path, run: Path) -> None:
    for name in ("a.nii.gz", "b.nrrd", "c.mha", "d.nhdr", "e.mhd"):
        save(tmp_path / "scans" / name)
    done = predict(tmp_path / "scans", run, tmp_path / "out")
    assert done.problems == []
    assert [path.name for path in done.written] == ["a.nii.gz", "b.nrrd", "c.mha", "d.nrrd", "e.mha"]
    reference = read_label_map(done.written[0])
    assert len(np.unique(reference.pixels)) > 1
    for path in done.written[1:]:
        mask, image = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / "scans" / "b.nrrd"))
        assert np.array_equal(sitk.GetArrayFromImage(mask).T, reference.pixels)
        for place in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.abs(np.subtract(getattr(mask, place)(), getattr(image, place)())).max() < 1e-12


def test_files_of_one_name_are_a_problem_and_the_others_go_on(tmp_path: Path, run: Path) -> None:
    for name in ("case.nii.gz", "case.nrrd", "other.nrrd"):
        save(tmp_path / "scans" / name)
    done = predict(tmp_path / "scans", run, tmp_path / "out")
    assert [path.name for path in done.written] == ["other.nrrd"]
    (problem,) = done.problems
    assert re.search(r"case\.nii\.gz and .*case\.nrrd have the same case name 'case' and are left out; remove", problem)
    (tmp_path / "scans" / "other.nrrd").unlink()
    with pytest.raises(InputError, match="have the same case name 'case'"):
        predict(tmp_path / "scans", run, tmp_path / "out")


def test_a_bids_tree_is_predicted(tmp_path: Path, run: Path) -> None:
    root = tmp_path / "bids"
    for visit in ("sub-01", "sub-02"):
        path = root / visit / "anat" / f"{visit}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 5)).astype(np.float32), np.eye(4)), path)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "test", "BIDSVersion": "1.9.0"}))
    done = predict(root, run, tmp_path / "out")
    assert [path.name for path in done.written] == ["sub-01.nii.gz", "sub-02.nii.gz"]
    names = [path.name for path in bids_mask_paths(open_dataset(root).cases, tmp_path / "out").values()]
    assert names == ["sub-01_desc-deconvseg_dseg.nii.gz", "sub-02_desc-deconvseg_dseg.nii.gz"]
