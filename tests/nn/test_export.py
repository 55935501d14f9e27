"""Exported programs compute what the layers compute: ONNX Runtime and OpenVINO, with their optimisers on."""

import copy
import io
import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import deconvseg
from deconvseg.nn import DTC, NDC, create_upsampling

OPEN = torch.export.Dim.DYNAMIC


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporters write about themselves; their warnings are not about what is exported."""
    monkeypatch.setattr(logging.getLogger("torch.onnx"), "disabled", True)
    warnings.simplefilter("ignore")


def session(model: nn.Module, x: torch.Tensor, **options):  # type: ignore[no-untyped-def]
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra dev)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra dev)")
    written = io.BytesIO()
    with torch.no_grad():
        program = torch.onnx.export(model.eval(), (x,), written, verbose=False, **options)
    content = written.getvalue() if program is None else program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def assert_same(run, model: nn.Module, x: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        expected, exact = model.eval()(x).numpy(), copy.deepcopy(model).double()(x.double()).numpy()
    found = run.run(None, {run.get_inputs()[0].name: x.numpy()})[0]
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    # Another order of additions: its error follows the largest value, and where a normalisation divides by almost
    # nothing, as on an image of zeros, the error of float32 itself.
    allowed = max(1e-4 * np.abs(exact).max(), 4 * np.abs(expected - exact).max())
    assert np.abs(found - exact).max() <= allowed


def images(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Noise, noise with an empty half, zeros, and a constant: empty places are where only ε is left."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    half = noise.clone()
    half[..., : shape[-1] // 2] = 0
    return [noise, half, torch.zeros(shape), torch.full(shape, 3.7)]


@pytest.mark.parametrize(
    ("channels", "options", "dynamo"),
    [(8, {}, True), (8, {}, False), (1, {"ratio": 1, "eps": 1e-16, "iterations": 3}, True)],
)
def test_epsilon_survives_the_optimisers_of_onnx(channels, options, dynamo):
    torch.manual_seed(0)
    layer = NDC(channels, (3, 3), **options)
    x, *others = images((2, channels, 12, 14))
    run = session(layer, x, dynamo=dynamo)
    for image in (x, *others):
        assert_same(run, layer, image)


def test_a_deconver_exported_to_onnx_as_by_default_gives_its_logits():
    torch.manual_seed(0)
    model = deconvseg.Deconver(1, 2, spatial_dims=3, widths=(8, 16), upsampling="dtc+transposed")
    x, *others = images((1, 1, 8, 8, 8))
    run = session(model, x, dynamo=True)
    for image in (x, *others):
        assert_same(run, model, image)


@pytest.mark.parametrize(("kind", "dims"), [("dtc", 3), ("dysample", 2)])
def test_an_upsampling_exported_to_onnx_takes_other_sizes(kind, dims):
    torch.manual_seed(0)
    layer = create_upsampling(kind, 8, 4, (1, 2, 3)[:dims], dims)
    x = torch.rand(2, 8, *(4, 5, 6)[:dims])
    open_sizes = {0: OPEN, **{2 + axis: OPEN for axis in range(dims)}}
    run = session(layer, x, dynamo=True, dynamic_shapes=(open_sizes,))
    for shape in (x.shape, (1, 8, *(7, 3, 4)[:dims])):
        assert_same(run, layer, torch.rand(shape))


def test_openvino_converts_dtc_of_open_sizes():
    openvino = pytest.importorskip("openvino", reason="openvino is not installed (extra dev)")
    torch.manual_seed(0)
    layer = DTC(8, 4, (2, 3), 2, receptive_field="inf").eval()
    with torch.no_grad():
        open_sizes = ({0: OPEN, 2: OPEN, 3: OPEN},)
        program = torch.export.export(layer, (torch.rand(2, 8, 6, 7),), dynamic_shapes=open_sizes)
    # On processors with bfloat16, OpenVINO computes in it unless it is told not to.
    full = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.convert_model(program), "CPU", full)
    for shape in ((2, 8, 6, 7), (1, 8, 5, 9)):
        x = torch.rand(shape)
        expected = layer(x).detach().numpy()
        found = compiled(x.numpy())[0]
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
