"""Models in 8 bits: calibrated on training cases, near the network, and refused where they cannot be made."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deconvseg.data import Geometry, Image
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations import export, read_contract
from deconvseg.integrations.exporting import trace
from deconvseg.integrations.openvino import OpenVinoEngine, calibration_windows, quantise, to_openvino
from deconvseg.models import create_model
from deconvseg.runs import Run
from plans import tiny_plan


@pytest.fixture(autouse=True)
def _openvino() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")


def test_windows_for_calibration_are_those_of_a_prediction() -> None:
    plan = tiny_plan(patch_size=(16, 16))
    images = [
        Image(np.random.default_rng(n).normal(size=(1, 24, 32)).astype(np.float32), Geometry.identity(2))
        for n in (0, 1)
    ]
    every = calibration_windows(plan, images, most=100)
    assert {window.shape for window in every} == {(1, 1, 16, 16)}
    assert len(every) == 2 * 2 * 3
    few = calibration_windows(plan, images, most=3)
    assert [any(np.array_equal(window, other) for other in every) for window in few] == [True] * 3
    assert np.array_equal(few[0], every[0])
    assert np.array_equal(few[-1], every[-1])


def test_int8_is_for_openvino(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`int8`: models in 8 bits are made for OpenVINO; give `format='openvino'`"):
        export(tmp_path / "run", tmp_path / "out", int8=True)


def test_a_missing_nncf_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingPackageError, match=r"nncf is not installed: pip install 'deconvseg\[int8\]'"):
        export(tmp_path / "run", tmp_path / "out", format="openvino", int8=True)


@pytest.mark.slow
def test_a_quantised_model_is_near_the_network_and_has_eight_bits() -> None:
    pytest.importorskip("nncf", reason="nncf is not installed (extra int8)")
    torch.manual_seed(0)
    network = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=[8, 16]).eval()
    windows = [np.random.default_rng(n).normal(size=(1, 1, 16, 16)).astype(np.float32) for n in range(8)]
    model = to_openvino(trace(network, (16, 16)))
    lower = quantise(model, windows)
    assert any(each.get_type_name() == "FakeQuantize" for each in lower.get_ops())
    assert not any(each.get_type_name() == "FakeQuantize" for each in model.get_ops()), "the given model has changed"
    image = torch.from_numpy(windows[0])
    with torch.no_grad():
        expected = network(image)
    found = OpenVinoEngine(lower, channels=1, fixed_size=(16, 16)).logits(image)
    assert 0 < (found - expected).norm() < 0.2 * expected.norm()


@pytest.mark.slow
def test_an_export_in_int8_says_so_and_what_it_costs(
    trained: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason="nncf is not installed (extra int8)")
    contract = export(trained, tmp_path / "out", format="openvino", int8=True, images=discs)
    assert read_contract(tmp_path / "out") == contract
    assert (contract.model.precision, contract.model.any_size, contract.model.any_batch) == ("int8", False, False)
    assert contract.windows.size == Run.open(trained).plan.patch_size
    assert contract.parity is not None
    assert contract.parity.dice is not None
    assert contract.parity.dice > 0.9
    quantised, splits = contract.quantisation, Run.open(trained).splits
    assert quantised is not None
    assert (set(quantised.calibration), set(quantised.cases)) == (set(splits["train"]), set(splits["val"]))
    assert quantised.dice is not None
    assert quantised.dice_before is not None
    assert abs(quantised.dice - quantised.dice_before) < 0.1
    assert quantised.dice > 0.5
    assert contract.versions["nncf"]
    assert capsys.readouterr().out == "", "NNCF has printed"
