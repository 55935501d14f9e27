"""`deconvseg export` writes a model with its contract, which make the masks of `deconvseg predict`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from deconvseg import cli, predict
from deconvseg.data import read_label_map
from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.integrations import Contract, export, read_contract
from deconvseg.integrations.exporting import export as exporting
from deconvseg.integrations.exporting import programs
from deconvseg.integrations.onnx import run_onnx
from deconvseg.runs import Run
from plans import volume_run


@pytest.fixture(scope="module")
def exported(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as a program of torch.export, the quickest format."""
    folder = tmp_path_factory.mktemp("exported")
    export(trained, folder, format="torch-export", images=discs)
    return folder


def test_an_export_has_what_its_reader_needs(exported: Path, trained: Path) -> None:
    contract = read_contract(exported)
    assert sorted(path.name for path in exported.iterdir()) == ["contract.json", "model.pt2"]
    assert (contract.model.any_batch, contract.model.any_size, contract.model.size_multiple) == (True, True, (2, 2))
    assert [label.value for label in contract.labels] == [0, 255]
    assert contract.windows.size == (32, 32)
    assert contract.networks[0].run == trained.name
    assert contract.versions["torch"] == torch.__version__
    assert str(Path(cli.__file__).parents[2]).encode() not in (exported / "model.pt2").read_bytes()


def test_a_written_program_takes_other_sizes(exported: Path, trained: Path) -> None:
    program = torch.export.load(exported / "model.pt2").module()
    x, network = torch.rand(3, 1, 26, 44), Run.open(trained).network("final")
    with torch.no_grad():
        torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-4)


def test_the_export_is_compared_on_a_validation_case(exported: Path, trained: Path) -> None:
    parity = read_contract(exported).parity
    assert parity is not None
    assert parity.case in json.loads((trained / "splits.json").read_text())["val"]
    assert parity.logits < 1e-4
    assert (parity.dice, parity.differing, parity.voxels) == (1.0, 0, 40 * 48)


def test_without_images_noise_is_compared(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    parity = export(run, tmp_path / "out", format="torch-export", threshold=0.4).parity
    assert parity is not None
    assert (parity.case, parity.dice, parity.windows) == (None, None, 1)
    contract = read_contract(tmp_path / "out")
    assert (contract.decision.kind, contract.decision.threshold) == ("foreground", 0.4)


def test_a_model_that_differs_is_not_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: Path
) -> None:
    convert = programs._CONVERTERS["torch-export"]

    def wrong(traced: Any) -> programs.Program:
        with torch.no_grad():
            next(iter(traced.program.state_dict.values())).mul_(3)
        return convert(traced)

    monkeypatch.setattr(programs, "_CONVERTERS", {"torch-export": wrong})
    with pytest.raises(DeconvsegError, match="differs from its network"):
        export(trained, tmp_path / "out", format="torch-export", images=discs)
    assert not (tmp_path / "out").exists()


def test_runs_that_see_other_windows_are_exported_one_by_one(tmp_path: Path) -> None:
    runs = [volume_run(tmp_path / "a"), volume_run(tmp_path / "b", patch_size=[8, 8, 16])]
    with pytest.raises(InputError, match=r"b: its plan has another patch_size than that of .*a, .*one by one"):
        export(runs, tmp_path / "out", format="torch-export")


def test_a_run_is_not_replaced_by_its_export(trained: Path) -> None:
    with pytest.raises(InputError, match=r"is a run; choose another folder for the export \(`output`\)"):
        export(trained, trained)


def test_an_export_is_written_into_a_folder_without_one_of_another_format(exported: Path, trained: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(InputError, match=r"holds an export to torch-export, beside which none to openvino is written"):
        export(trained, exported, format="openvino")
    with pytest.raises(InputError, match=r"model\.pt2: is a file; choose another folder for the export \(`output`\)"):
        export(trained, exported / "model.pt2", format="torch-export")


@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_a_missing_package_is_named_before_anything_is_traced(
    format: Any, package: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "onnxruntime":
        pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(exporting, "trace", lambda *_, **__: pytest.fail("traced"))
    with pytest.raises(MissingPackageError, match=rf"pip install 'deconvseg\[{format}\]'"):
        export(trained, tmp_path / "out", format=format)


@pytest.mark.parametrize(
    ("scan", "mask", "told"),
    [
        ("scan.png", "mask.png", "scan.png does not exist"),
        ("scan.png", "mask.jpg", "mask.jpg: the mask's name must end with .png"),
    ],
)
def test_the_script_names_what_it_cannot_read_or_write(
    scan: str, mask: str, told: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "argv", ["run_onnx.py", str(tmp_path / scan), "-o", str(tmp_path / mask)])
    monkeypatch.setattr(run_onnx, "__file__", str(exported / "run_onnx.py"))
    with pytest.raises(SystemExit, match=told):
        run_onnx.main()


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["deconvseg", "export", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return (int(end.value.code or 0), *capsys.readouterr())


def test_the_command_prints_the_schema(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "--schema")
    assert code == 0
    assert json.loads(out) == Contract.model_json_schema()


def test_a_run_and_a_folder_are_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = run(monkeypatch, capsys, "-o", "somewhere")
    assert (code, told.count("\n")) == (2, 1)
    assert "give a run, and a folder for its export as -o" in told


def test_eight_bits_without_openvino_are_refused_by_their_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    code, _, told = run(monkeypatch, capsys, str(trained), "-o", str(tmp_path / "out"), "--int8")
    assert code == 2
    assert "--int8: models in 8 bits are made for OpenVINO; give --format openvino too" in told


def test_the_command_tells_how_the_model_compares(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trained: Path, discs: Path, tmp_path: Path
) -> None:
    where = ["-o", str(tmp_path / "out"), "--format", "torch-export", "-i", str(discs), "--case", "disc6"]
    code, out, _ = run(monkeypatch, capsys, str(trained), *where)
    assert code == 0
    assert "model.pt2: takes any batch and every size of multiples of 2 x 2" in out
    assert "compared with the network on disc6: logits differ by" in out
    assert "masks: Dice 1.0000, 0 of 1,920 voxels differ" in out


def by_script(folder: Path, output: Path, *channels: Path) -> np.ndarray:
    command = [sys.executable, "-I", str(folder / "run_onnx.py"), *map(str, channels), "-o", str(output)]
    subprocess.run(command, check=True, timeout=120)
    return read_label_map(output).pixels


@pytest.mark.slow
def test_the_script_makes_the_mask_of_predict_from_a_picture(trained: Path, discs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")
    export(trained, tmp_path / "out", images=discs)
    predict(discs / "images", trained, tmp_path / "masks", device="cpu")
    for name in ("disc6", "disc7"):
        found = by_script(tmp_path / "out", tmp_path / f"{name}.png", discs / "images" / f"{name}.png")
        np.testing.assert_array_equal(found, read_label_map(tmp_path / "masks" / f"{name}.png").pixels)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_two_volumes_networks_are_one_model(tmp_path: Path, format: Any) -> None:
    pytest.importorskip({"onnx": "onnxscript", "openvino": "openvino"}[format])
    first, second = volume_run(tmp_path / "a"), tmp_path / "b"
    shutil.copytree(first, second)
    affine = np.array([[0.1, -0.9, 0.2, 5.0], [0.1, 0.1, -3.0, 40.0], [1.1, 0.1, 0.3, -7.0], [0, 0, 0, 1]])
    pixels = np.random.default_rng(0).normal(size=(14, 19, 11)).astype(np.float32)
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(pixels, affine), scan)
    contract = export([first, second], tmp_path / "out", format=format, images=scan)
    assert contract.parity is not None
    assert (contract.model.networks, contract.parity.differing) == (2, 0)
    if format == "onnx":
        predict(scan, [first, second], tmp_path / "masks", device="cpu")
        found = by_script(tmp_path / "out", tmp_path / "mask.nii.gz", scan)
        np.testing.assert_array_equal(found, read_label_map(tmp_path / "masks" / "scan.nii.gz").pixels)
    else:
        assert set(read_contract(tmp_path / "out").model.further_files) == {"model.bin"}
