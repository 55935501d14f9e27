"""run_onnx.py names what is wrong with its folder in one line."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from deconvseg.integrations import onnx

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (None, r"contract\.json cannot be read \(.*No such file.*\): copy the whole folder again"),
        ("{", r"contract\.json cannot be read \(Expecting property name.*\): copy the whole folder again"),
        (
            json.dumps({"image": {"axes": "RAS", "channels": []}, "model": {"file": "model.onnx"}}),
            r"model\.onnx is missing: copy the whole folder of the export again",
        ),
    ],
    ids=["no contract", "cut contract", "no model"],
)
def test_incomplete_folder(contract: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel as nib
    import numpy as np

    script = Path(shutil.copy(Path(onnx.__file__).with_name("run_onnx.py"), tmp_path))
    if contract is not None:
        (tmp_path / "contract.json").write_text(contract, encoding="utf-8")
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), scan)
    monkeypatch.setattr(sys, "argv", [str(script), str(scan), "-o", str(tmp_path / "mask.nii.gz")])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(script), run_name="__main__")
