"""What predict has recorded beside its masks is told with their scores."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from deconvseg.evaluation import evaluate


def test_doubts_that_predict_recorded_stand_among_the_warnings(tmp_path: Path) -> None:
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    for folder in ("truth", "prediction"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "truth" / f"{name}.nii.gz")
        mask = mask[::-1].copy()
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "prediction" / f"{name}.nii.gz")
    assert evaluate(tmp_path / "truth", tmp_path / "prediction").warnings == ()
    lines: list[object] = [
        {"mask": "a.nii.gz", "warnings": ["an older doubt"]},
        {"mask": "a.nii.gz", "warnings": ["unlike the training scans: size along x 6 mm", "the mask is empty"]},
        {"mask": "gone.nii.gz", "warnings": ["unlike the training scans"]},
        {"mask": ["b"], "warnings": 3},
        [],
    ]
    text = "\n".join([*map(json.dumps, lines), '{"mask": "b.nii.g'])
    (tmp_path / "prediction" / "predictions.jsonl").write_text(text)
    (warning,) = evaluate(tmp_path / "truth", tmp_path / "prediction").warnings
    assert warning == "the prediction warned of 1 of the masks: a.nii.gz: unlike the training scans: size along x 6 mm"
