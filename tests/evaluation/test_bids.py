"""Predictions in a BIDS derivative are found by the names of their cases."""

import json

import nibabel as nib
import numpy as np

from deconvseg.data import bids_mask_paths, open_dataset, write_bids_description, write_label_map
from deconvseg.evaluation import evaluate


def test_a_derivative_is_evaluated_against_the_masks_of_the_dataset(tmp_path):
    pixels = np.zeros((6, 5, 4), np.uint8)
    pixels[2:4, 1:3, 1:3] = 1
    for subject in ("sub-01", "sub-02"):
        for name in (f"{subject}/anat/{subject}_acq-3d_T1w", f"derivatives/manual/{subject}/anat/{subject}_dseg"):
            path = tmp_path / f"{name}.nii.gz"
            path.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(pixels, np.diag([1, 1, 2, 1])), path)
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "test", "BIDSVersion": "1.9.0"}))
    dataset = open_dataset(tmp_path)
    output = tmp_path / "derivatives" / "deconvseg"
    write_bids_description(output, {0: "background", 1: "lesion"})
    for name, path in bids_mask_paths(dataset.cases, output).items():
        write_label_map(dataset.load_label(dataset.case(name)), path)
    scores = evaluate(tmp_path, output)
    assert scores.problems == ()
    assert [case.name for case in scores.cases] == ["sub-01", "sub-02"]
    assert {case.mean["dsc"] for case in scores.cases} == {1.0}
