"""The precision of a prediction: requested or measured, in the network alone, in the records, and for these weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import deconvseg
from consoles import Listening
from deconvseg.data import read_label_map
from deconvseg.errors import InputError
from deconvseg.inference import Engine, Predictor, TorchEngine, predict_windows
from deconvseg.inference.precisions import decide_precision
from deconvseg.models import create_model
from deconvseg.nn.frozen import WinogradConv2d
from deconvseg.ops.winograd.packing import _cache
from deconvseg.runs import MeasuredPrecision, Run, weights_of
from deconvseg.system import why_no_bfloat16
from plans import tiny_plan, volume_run

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(why_no_bfloat16("cpu") is not None, reason="the processor has no AVX512-BF16")


def measured(choice: str, weights: tuple[str | None, ...]) -> MeasuredPrecision:
    return MeasuredPrecision.model_validate({"choice": choice, "why": "it is a test", "weights": weights})


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, in which a precision may be recorded."""
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    measured("bf16", weights_of(folder)).write(folder)
    return folder


def test_the_engine_computes_what_the_network_does_under_autocast() -> None:
    torch.manual_seed(0)
    network = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=(4, 8)).eval()
    windows = torch.randn(2, 1, 16, 16)
    lowered, full = (TorchEngine(network, channels=1, device=CPU, precision=p) for p in ("bf16", "32"))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            expected = network(windows)
        assert torch.equal(lowered.logits(windows), expected)
        assert torch.equal(full.logits(windows), network(windows))
        assert not torch.equal(expected.float(), full.logits(windows))
        maps = predict_windows(network, windows, (16, 16), precision="bf16")
    assert torch.allclose(maps, expected.float().softmax(1), atol=1e-6)
    assert b"".join(lowered.fingerprint()) == b"bf16" + b"".join(full.fingerprint())


@needs_bfloat16
def test_weights_are_packed_once_in_the_precision_of_the_predictor() -> None:
    torch.manual_seed(0)
    ends = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    network = create_model("nnunet", **ends, widths=(32, 32, 64)).eval()
    predictor = Predictor([(network, tiny_plan())], precision="bf16")
    (engine,) = predictor.engines
    weights = [layer.weight for layer in engine.network.modules() if isinstance(layer, WinogradConv2d)]
    made = [_cache[weight].transformed for weight in weights]
    assert {packed.dtype for packed in made} == {torch.bfloat16}
    with torch.inference_mode():
        engine.logits(torch.randn(1, 1, 16, 16))
    assert all(_cache[weight].transformed is packed for weight, packed in zip(weights, made, strict=True))


def test_probabilities_in_bfloat16_are_float32_numbers_near_those_in_float32(trained: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 48)).astype(np.float32)
    predictors = {p: Predictor([Run.open(trained)], precision=p) for p in ("32", "bf16")}  # type: ignore[arg-type]
    maps = {name: deconvseg.predict(image, trained, precision=name, probabilities=True)[1] for name in predictors}
    assert predictors["32"].identity != predictors["bf16"].identity
    if why_no_bfloat16("cpu") is None:
        assert maps["bf16"].dtype == np.float32
        assert 0 < np.abs(maps["32"] - maps["bf16"]).max() < 0.1


@needs_bfloat16
def test_masks_of_two_precisions_do_not_mix(trained: Path, discs: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    first = deconvseg.predict(discs / "images", trained, masks, precision="32", device="cpu")
    assert first.computing["precision"] == ["float32"]
    kept = deconvseg.predict(discs / "images", trained, masks, device="cpu", skip_existing=True)
    assert len(kept.skipped) == len(first.written) == 8
    again = deconvseg.predict(discs / "images", trained, masks, precision="bf16", device="cpu", skip_existing=True)
    assert (len(again.written), again.skipped) == (8, [])
    assert again.remarks["disc0"][0] == "its mask was made in float32, and is predicted again in bfloat16"
    assert again.computing["precision"] == ["bfloat16"]
    records = [json.loads(line)["precision"] for line in (masks / "predictions.jsonl").read_text().splitlines()]
    assert records == ["32"] * 8 + ["bf16"] * 8
    back = deconvseg.predict(discs / "images", trained, masks, precision="32", device="cpu", skip_existing=True)
    assert len(back.written) == 8


@needs_bfloat16
def test_auto_takes_what_was_measured_for_these_weights(run: Path, discs: Path, tmp_path: Path) -> None:
    console = Listening()
    done = deconvseg.predict(discs / "images", run, tmp_path / "auto", device="cpu", console=console)
    assert "precision: bfloat16, because it is a test" in console.said
    assert any(line.startswith("computing: bfloat16 on cpu") for line in console.said)
    asked = deconvseg.predict(discs / "images", run, tmp_path / "asked", precision="bf16", device="cpu")
    for one, other in zip(done.written, asked.written, strict=True):
        assert np.array_equal(read_label_map(one).pixels, read_label_map(other).pixels)
    full = deconvseg.predict(discs / "images", run, tmp_path / "full", precision="32", device="cpu")
    assert full.computing["precision"] == ["float32"]
    # Other weights: the measurement is void.
    state = Run.open(run).load_weights()
    Run.open(run).save_weights({name: 2 * value for name, value in state.items()})
    void = deconvseg.predict(discs / "images", run, tmp_path / "void", device="cpu")
    assert void.computing["precision"] == ["float32"]
    assert void.warnings == [f"{run}: its precision.json was measured for other weights than these, so it is not used"]


@needs_bfloat16
def test_auto_ignores_a_measurement_on_another_kind_of_device(run: Path) -> None:
    found = measured("bf16", weights_of(run))
    for device, precision in (("cpu", "bf16"), ("cuda", "32")):
        found.model_copy(update={"device": device}).write(run)
        assert decide_precision("auto", [Run.open(run)], "cpu").precision == precision


@needs_bfloat16
def test_auto_needs_the_measurement_of_every_fold(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    both = [Run.open(run), Run.open(other)]
    decided = decide_precision("auto", both, "cpu")
    assert (decided.precision, decided.warnings) == ("bf16", ())
    assert decided.lines == ("precision: bfloat16, because it was measured to be good enough for each of 2 runs",)
    measured("32", weights_of(other)).write(other)
    assert decide_precision("auto", both, "cpu").precision == "32"
    (other / "precision.json").unlink()
    assert decide_precision("auto", both, "cpu").precision == "32"
    network = create_model("deconver", **Run.open(run).plan.model.config)
    assert decide_precision("auto", [Run.open(run), (network, tiny_plan())], "cpu").precision == "32"


def test_without_instructions_bfloat16_brings_nothing(run: Path) -> None:
    decided = decide_precision("bf16", [Run.open(run)], "mps")
    assert decided.precision == "32"
    assert decided.warnings == (
        "computing in float32, because `precision='bf16'` brings nothing here: bfloat16 is not used on mps",
    )
    auto = decide_precision("auto", [Run.open(run)], "mps")
    assert auto.precision == "32"


@pytest.mark.slow
def test_a_processor_without_bfloat16_predicts_and_trains_in_float32(
    discs: Path, trained: Path, tmp_path: Path
) -> None:
    """PyTorch can be told to forgo the instructions; the setting is read when it is imported."""
    import os
    import subprocess
    import sys

    script = (
        "import sys, deconvseg\n"
        "from deconvseg.training import choose_precision\n"
        "done = deconvseg.predict(sys.argv[1], sys.argv[2], sys.argv[3], precision='bf16', device='cpu')\n"
        "print(done.computing['precision'], done.warnings, choose_precision('bf16', 'cpu'))\n"
    )
    asked = [sys.executable, "-c", script, str(discs / "images"), str(trained), str(tmp_path / "masks")]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    assert "['float32']" in said
    assert "brings nothing here: AVX512-BF16 is not used, because PyTorch is set to AVX2" in said
    assert "32-true" in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"choice": "16", "why": ""}', "choice"),
        ('{"choice": "bf16", "why": "", "dice": {"64": 1.0}}', "dice.64"),
        ('{"choice": "bf16", "why": "", "further": 1}', "further"),
        ("[]", "precision.json"),
    ],
)
def test_a_damaged_measurement_is_named(run: Path, text: str, names: str) -> None:
    (run / "precision.json").write_text(text)
    with pytest.raises(InputError, match=names):
        deconvseg.runs.read_precision(run)


def test_unknown_precisions_and_engines_of_their_own_are_refused(tmp_path: Path) -> None:
    class Constant(Engine):
        def logits(self, batch: torch.Tensor) -> torch.Tensor:
            return batch

        def fingerprint(self) -> list[bytes]:
            return []

    folder = volume_run(tmp_path / "run")
    with pytest.raises(InputError, match="`precision` '64' is unknown"):
        deconvseg.predict(np.zeros((1, 8, 8, 8), np.float32), folder, precision="64")
    with pytest.raises(InputError, match="an engine computes in a precision of its own"):
        Predictor([(Constant(), Run.open(folder).plan)], precision="bf16")
