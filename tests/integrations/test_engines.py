"""Other engines give PyTorch's masks, say what they take, and keep to the memory that is allowed."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import deconvseg
from consoles import Listening
from deconvseg.data import Geometry, Image, read_label_map
from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.inference import (
    Engine,
    Predictor,
    TorchEngine,
    create_engine,
    engine_precisions,
    list_engines,
    register_engine,
    unregister_engine,
)
from deconvseg.integrations.exporting.running import ProgramEngine, live_bytes
from deconvseg.models import Network, create_model
from deconvseg.runs import Run
from plans import tiny_plan

OTHERS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed (extras onnx and openvino)")


def network(model: str = "unet", dims: int = 2, **more: object) -> Network:
    torch.manual_seed(0)
    config = {"in_channels": 1, "out_channels": 3, "spatial_dims": dims, "widths": [4, 8], **more}
    made: Network = create_model(model, **config).eval()
    return made


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    """The engines of one small network, for windows of 16 x 24."""
    return {name: create_engine(name, network(), (16, 24)) for name in OTHERS}


@pytest.mark.parametrize("name", OTHERS)
def test_an_engine_computes_the_logits_of_the_network_at_every_size_that_it_names(
    engines: dict[str, Engine], name: str
) -> None:
    engine, own = engines[name], network()
    assert (engine.size_multiple, engine.fixed_size) == (own.size_multiple, None)
    for size in ((16, 24), (8, 12)):
        image = torch.rand(1, 1, *size)
        with torch.no_grad():
            expected = own(image)
        found = engine.logits(image.clone())
        kept = found.clone()
        engine.logits(image + 1)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert torch.equal(found, kept), "a later call changed the logits"


@pytest.mark.parametrize("name", OTHERS)
def test_the_estimate_of_memory_grows_with_the_window_and_holds_the_layers(
    engines: dict[str, Engine], name: str
) -> None:
    one, four = (engines[name].bytes(window, 1) for window in ((16, 24), (32, 48)))
    # Two tensors of the first stage and the logits, in float32.
    assert four >= 4 * (2 * 4 + 3) * 32 * 48
    assert 3 < four / one < 5


def test_bfloat16_is_near_float32_and_fingerprints_differ_by_all_that_logits_depend_on(
    engines: dict[str, Engine],
) -> None:
    other, image = network(), torch.rand(1, 1, 16, 24)
    with torch.no_grad():
        next(other.parameters()).mul_(1.001)
        expected = other(image)
    lowered = create_engine("openvino", other, (16, 24), precision="bf16")
    # Processors without bfloat16 compute in float32.
    assert (lowered.logits(image) - expected).norm() < 0.05 * expected.norm()
    prints = [list(engine.fingerprint()) for engine in (*engines.values(), lowered)]
    assert len({b"".join(pieces[1:]) for pieces in prints}) == 3
    assert prints[0][0].startswith(b"ONNX Runtime 1.")
    assert [pieces[0].split()[-1] for pieces in prints] == [b"32", b"32", b"bf16"]


def test_an_engine_keeps_to_the_memory_that_is_allowed(engines: dict[str, Engine]) -> None:
    plan = tiny_plan(patch_size=(64, 96), labels={"values": (0, 1, 2), "names": ("background", "a", "b")})
    pixels = np.random.default_rng(0).normal(size=(1, 70, 100)).astype(np.float32)
    image = Image(pixels, Geometry.identity(2))
    for engine in engines.values():
        amply = Predictor([(engine, plan)])
        needed = amply.estimate(amply.prepare(image))
        tight = Predictor([(engine, plan)], memory=needed.bytes - engine.bytes((64, 96), 1) // 3)
        found = tight.estimate(tight.prepare(image))
        assert found.bytes <= needed.bytes - engine.bytes((64, 96), 1) // 3
        assert found.windows > needed.windows
        notes: list[str] = []
        assert tight.segment(image, note=notes.append).shape == (70, 100)
        assert any("instead of the trained (64, 96), for lack of memory" in note for note in notes)


@pytest.mark.parametrize("name", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_predict_writes_the_masks_of_pytorch_and_says_what_computed_them(
    trained: Path, discs: Path, tmp_path: Path, name: str
) -> None:
    options = {"cases": ["disc0", "disc1"], "precision": "32"}
    expected = deconvseg.predict(discs, trained, tmp_path, **options)  # type: ignore[arg-type]
    before = [read_label_map(mask).pixels for mask in expected.written]
    console = Listening()
    done = deconvseg.predict(discs, trained, tmp_path, **options, engine=name, skip_existing=True, console=console)  # type: ignore[arg-type]
    assert len(done.written) == 2, "masks of another engine were kept"
    for pixels, mask in zip(before, done.written, strict=True):
        assert (read_label_map(mask).pixels == pixels).mean() > 0.9999
    (title,) = done.computing["engines"]
    assert any(f"float32 by {title} on cpu; not mirrored" in line for line in console.said)


@pytest.mark.slow
def test_engines_average_runs_as_pytorch_does(trained: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 48)).astype(np.float32)
    maps = [
        deconvseg.predict(image, [trained, trained], engine=name, tta=True, precision="32", probabilities=True)[1]
        for name in ("torch", "openvino")
    ]
    assert np.abs(maps[0] - maps[1]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("deconver", {"widths": [8, 16]}),
        ("nnunet", {"widths": [4, 8, 8]}),
        ("unet", {"upsampling": "dtc+transposed"}),
        ("unetr", {"image_size": 32}),
    ],
    ids=["deconver", "nnunet", "unet + DTC", "unetr"],
)
def test_every_kind_of_network_in_every_engine(name: str, dims: int, model: str, more: dict[str, object]) -> None:
    if model == "unetr":
        torch.manual_seed(0)
        own: Network = create_model(
            model, in_channels=1, out_channels=3, spatial_dims=dims, feature_size=4, **more
        ).eval()
    else:
        own = network(model, dims, **more)
    engine = create_engine(name, own, (32,) * dims)
    assert engine.fixed_size == ((32,) * dims if model == "unetr" else None)
    image = torch.rand(1, 1, *(32,) * dims)
    with torch.no_grad():
        expected = own(image)
    assert (engine.logits(image) - expected).abs().max() <= 1e-4 * expected.abs().max()


# --- Errors ----------------------------------------------------------------------------------------------------------


def test_an_unknown_engine_is_named_with_the_known_ones(trained: Path) -> None:
    image = np.zeros((1, 40, 48), np.float32)
    with pytest.raises(
        InputError, match=r"`engine` 'openvin' is unknown: did you mean 'openvino'\? choose from torch, "
    ):
        deconvseg.predict(image, trained, engine="openvin")


def test_a_precision_that_an_engine_does_not_have_is_refused(trained: Path) -> None:
    image = np.zeros((1, 40, 48), np.float32)
    with pytest.raises(InputError, match=r"`precision='bf16'`: the engine onnxruntime computes in 32 on a CPU"):
        deconvseg.predict(image, trained, engine="onnxruntime", precision="bf16")
    assert (engine_precisions("onnxruntime"), engine_precisions("openvino")) == (("32",), ("32", "bf16"))


@pytest.mark.parametrize(("name", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_one_line(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.* is not installed: pip install 'deconvseg\["):
        create_engine(name, network(), (16, 24))


def test_an_engine_beside_a_model_that_is_one_is_refused(trained: Path) -> None:
    plan = Run.open(trained).plan
    own = TorchEngine(network(), channels=1, device=torch.device("cpu"))
    with pytest.raises(InputError, match=r"`engine='openvino'`: the models are engines already; omit it"):
        Predictor([(own, plan)], engine="openvino")
    with pytest.raises(InputError, match=r"takes networks of `create_model`, not a Conv2d"):
        Predictor([(torch.nn.Conv2d(1, 2, 3), plan)], engine="openvino")
    with pytest.raises(InputError, match=r"`device='cuda'`: the engine openvino runs on the CPU"):
        Predictor([Run.open(trained)], engine="openvino", device="cuda")


class Failing(ProgramEngine):
    """An engine whose library fails with an error."""

    title, precision = "Abacus 1", "32"

    def __init__(self, error: Exception, *, compiling: bool = False) -> None:
        super().__init__(1, (2, 2), None)
        self.error, self.compiling = error, compiling

    def compile(self, shape: tuple[int, ...]) -> tuple[object, int]:  # type: ignore[override]
        if self.compiling:
            raise self.error

        def run(pixels: object) -> object:
            raise self.error

        return run, 5

    def program(self) -> Sequence[bytes]:  # type: ignore[override]
        return [b"beads"]


def test_a_lack_of_memory_becomes_memory_error_and_other_errors_one_line() -> None:
    image = torch.zeros(1, 1, 4, 4)
    for text in ("std::bad_alloc", "Failed to allocate memory for requested buffer of size 9"):
        engine = Failing(RuntimeError(text), compiling=True)
        assert engine.bytes((4, 4), 1) == 0
        for failing in (engine, Failing(ValueError(text))):
            with pytest.raises(MemoryError, match=r"^Abacus 1: "):
                failing.logits(image)
    with pytest.raises(DeconvsegError, match=r"^Abacus 1: unsupported memory format$"):
        Failing(RuntimeError("unsupported memory format\nat bead.cpp")).logits(image)


def test_a_registered_engine_is_listed_and_used(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    @register_engine("abacus")
    def make(own: Network, window: Sequence[int], *, precision: str) -> Engine:
        asked.append((tuple(window), precision))
        return TorchEngine(own, channels=own.in_channels, device=torch.device("cpu"))

    try:
        assert list_engines() == ["torch", "onnxruntime", "openvino", "abacus"]
        image = np.random.default_rng(0).uniform(0, 255, (1, 40, 48)).astype(np.float32)
        with caplog.at_level(logging.WARNING):
            mask = deconvseg.predict(image, trained, engine="abacus")
        assert np.array_equal(mask, deconvseg.predict(image, trained, precision="32"))
        assert asked == [(Run.open(trained).plan.patch_size, "32")]
        with pytest.raises(InputError, match="there is an engine 'abacus' already"):
            register_engine("abacus")
    finally:
        unregister_engine("abacus")


def test_live_bytes_are_those_of_tensors_that_are_still_read() -> None:
    steps = [
        ([], [("a", 10)]),
        (["a"], [("b", 20)]),
        (["b"], [("c", 5)]),
        (["a", "c"], [("d", 1)]),
        (["d"], [("e", 2)]),
    ]
    assert live_bytes(steps) == 10 + 20 + 5
    assert live_bytes([]) == 0
