"""Converted networks compute what the networks compute, for the batches and sizes that they say they take."""

import doctest
import importlib
import sys
from typing import Any

import numpy as np
import pytest
import torch

from deconvseg.errors import MissingPackageError
from deconvseg.integrations.exporting import Members, trace
from deconvseg.integrations.exporting.tracing import Traced
from deconvseg.integrations.onnx import to_onnx
from deconvseg.integrations.openvino import to_openvino
from deconvseg.models import Network, create_model

NETWORKS = {
    "deconver": ("deconver", {"widths": [8, 16]}),
    "unet + DTC": ("unet", {"widths": [4, 8], "upsampling": "dtc+transposed"}),
    "unet + DySample": ("unet", {"widths": [8, 8], "upsampling": "dysample"}),
    "nnunet": ("nnunet", {"widths": [4, 8, 8]}),
}


def network(name: str, dims: int, **more: Any) -> Network:
    torch.manual_seed(0)
    model, config = NETWORKS[name]
    made: Network = create_model(model, in_channels=2, out_channels=3, spatial_dims=dims, **config, **more).eval()
    return made


def by_onnxruntime(traced: Traced, x: torch.Tensor) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")
    model = to_onnx(traced)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert not model.functions
    assert b".py" not in model.SerializeToString()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(["logits"], {"image": x.numpy()})[0]
    return logits


def by_openvino(traced: Traced, x: torch.Tensor) -> np.ndarray:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")
    # On processors with bfloat16, OpenVINO computes in it unless it is told not to.
    compiled = openvino.compile_model(to_openvino(traced), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits: np.ndarray = compiled({"image": x.numpy()})["logits"]
    return logits


def assert_same(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).max() <= 1e-4 * expected.abs().max()


def check(name: str, dims: int, sampling: str, runtime: Any) -> None:
    model = network(name, dims)
    traced = trace(model, (16,) * dims, sampling=sampling)
    assert (traced.any_batch, traced.any_size, traced.reason) == (True, True, None)
    x = torch.rand(3, 2, *(multiple * (3, 5, 2)[axis] for axis, multiple in enumerate(model.size_multiple)))
    with torch.no_grad():
        assert_same(runtime(traced, x), model(x))


def test_sampling_in_volumes_becomes_grid_sample_of_onnx() -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")
    check("unet + DTC", 3, "grid_sample", by_onnxruntime)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["gather", "grid_sample"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "unet + DySample"])
def test_onnx_runtime_computes_the_logits_of_the_network(name: str, dims: int, sampling: str) -> None:
    check(name, dims, sampling, by_onnxruntime)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "unet + DySample"])
def test_openvino_computes_the_logits_of_the_network(name: str, dims: int) -> None:
    check(name, dims, "grid_sample" if dims == 2 else "gather", by_openvino)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [by_onnxruntime, by_openvino])
def test_dysample_is_exported_by_grid_sample(runtime: Any) -> None:
    check("unet + DySample", 2, "grid_sample", runtime)


@pytest.mark.slow
def test_two_forms_of_sampling_agree() -> None:
    model = network("unet + DTC", 2)
    programs = [trace(model, (16, 16), sampling=form).program for form in ("gather", "grid_sample")]
    x = torch.rand(2, 2, 12, 20)
    names = [{str(node.target) for node in program.graph.nodes} for program in programs]
    assert ["aten.grid_sampler.default" in each for each in names] == [False, True]
    for program in programs:
        assert_same(program.module()(x).detach().numpy(), model(x).detach())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("nnmamba", {"channels": 4, "blocks": 2, "states": 2}),
        ("unetr", {"image_size": 32, "feature_size": 4, "hidden_size": 24, "mlp_dim": 8, "num_heads": 2}),
    ],
)
def test_a_network_that_depends_on_its_size_is_exported_for_one(model: str, config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    made = create_model(model, in_channels=1, out_channels=2, spatial_dims=2, **config).eval()
    traced = trace(made, (32, 32))
    assert traced.size == (32, 32)
    assert not traced.any_size
    assert traced.reason
    x = torch.rand(3 if traced.any_batch else 1, 1, 32, 32)
    assert_same(traced.program.module()(x).detach().numpy(), made(x).detach())


@pytest.mark.slow
def test_members_give_the_logits_of_each_network_in_turn() -> None:
    networks = [network("unet + DTC", 2), network("nnunet", 2)]
    traced = trace(Members(networks), (16, 16))
    x = torch.rand(3, 2, 12, 20)
    with torch.no_grad():
        assert_same(traced.program.module()(x).numpy(), torch.cat([each(x) for each in networks], 1))


@pytest.mark.parametrize(("convert", "package"), [(to_onnx, "onnxscript"), (to_openvino, "openvino")])
def test_a_missing_package_is_named_with_its_extra(convert: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"{package}.* not installed: pip install 'deconvseg"):
        convert(None)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["exporting.tracing", "onnx.converting", "openvino.converting"])
def test_examples_give_what_they_show(module: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(f"deconvseg.integrations.{module}"), optionflags=flags)
    assert result.attempted
    assert not result.failed
