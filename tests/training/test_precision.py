"""Training in bfloat16 on a CPU, and the precision of later predictions that is measured at the end of a training."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import deconvseg
from consoles import Listening
from deconvseg.data import open_dataset
from deconvseg.inference.precisions import decide_precision
from deconvseg.options import TrainOptions
from deconvseg.planning.precisions import explain_float32, lowered_precision
from deconvseg.planning.trial import measure
from deconvseg.reporting import write_report
from deconvseg.runs import MeasuredPrecision, Run, read_precision, weights_of
from deconvseg.system import why_no_bfloat16
from deconvseg.training import choose_precision, precisions, train
from deconvseg.training.precisions import _choose, measure_precision
from plans import tiny_plan

needs_bfloat16 = pytest.mark.skipif(why_no_bfloat16("cpu") is not None, reason="the processor has no AVX512-BF16")


@needs_bfloat16
def test_a_training_in_bfloat16_keeps_float32_weights_and_finite_losses(discs: Path, tmp_path: Path) -> None:
    console, asked = Listening(), {"splits": discs / "splits.json", "device": "cpu", "precision": "bf16"}
    run = train(discs, tmp_path / "run", plan=tiny_plan(), console=console, **asked)  # type: ignore[arg-type]
    assert run.finished
    assert run.plan.recipe.precision == "bf16"
    assert all(math.isfinite(row["train_loss"]) and math.isfinite(row["val_dice"]) for row in run.metrics)
    weights = run.load_weights()
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(bool(value.isfinite().all()) for value in weights.values())
    found = read_precision(run.path)
    assert found is not None
    assert (found.choice, found.dice, found.weights) == ("32", {}, weights_of(run.path))
    assert found.why == (
        "bfloat16 was not measured: 2 validation cases cannot show a loss of 0.0005 of the mean Dice (10 are needed)"
    )
    assert f"predict computes in float32: {found.why}" in console.said
    assert any("M parameters in bfloat16 with float32 weights on cpu" in line for line in console.said)
    assert run.manifest["training"] == {"device": "cpu", "precision": "bfloat16 with float32 weights"}
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "bfloat16 with float32 weights" in page
    assert "2 validation cases cannot show" in page


def test_the_precision_of_a_recipe_on_a_cpu() -> None:
    assert (lowered_precision("auto", "cpu"), lowered_precision("32", "cpu")) == ("32", "32")
    has = why_no_bfloat16("cpu") is None
    assert lowered_precision("bf16", "cpu") == ("bf16" if has else "32")
    assert choose_precision("bf16", "cpu") == ("bf16-mixed" if has else "32-true")
    assert (explain_float32("bf16", "cpu") is None) == has


@needs_bfloat16
def test_timed_steps_are_those_of_the_recipes_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a trial step comes from logits of the recipe's type."""
    seen = set()
    forward = torch.nn.Module.__call__

    def watched(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        output = forward(self, *args, **kwargs)
        if type(self).__name__ == "UNet" and isinstance(output, torch.Tensor):
            seen.add(output.dtype)
        return output

    monkeypatch.setattr(torch.nn.Module, "__call__", watched)
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [4, 8]}
    for precision, dtype in (("bf16", torch.bfloat16), ("32", torch.float32)):
        seen.clear()
        recipe = tiny_plan().recipe.model_copy(update={"precision": precision}).model_dump()
        asked = {"patch": (16, 16), "batch": 1, "device": "cpu", "regions": False, "threads": 1, "recipe": recipe}
        assert math.isfinite(measure("unet", config, **asked)["seconds"])  # type: ignore[arg-type]
        assert seen == {dtype}


@pytest.fixture
def many(discs: Path, trained: Path, tmp_path: Path) -> tuple[Run, Path]:
    """A copy of the trained run with masks in float32 of 12 validation cases, and their dataset."""
    root = tmp_path / "many"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(12):
        for part in ("images", "masks"):
            pixels = np.array(PillowImage.open(discs / part / f"disc{number % 8}.png"))
            if part == "images":
                pixels = np.clip(pixels + rng.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
            PillowImage.fromarray(pixels).save(root / part / f"case{number:02d}.png")
    run = Run.open(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(run.validation)
    deconvseg.predict(root / "images", run.path, run.validation, precision="32", device="cpu")
    return run, root


@needs_bfloat16
def test_both_precisions_are_measured_on_the_same_validation_cases(many: tuple[Run, Path], tmp_path: Path) -> None:
    run, root = many
    data, console = open_dataset(root), Listening()
    options = TrainOptions(dataset=str(root), device="cpu")
    rows = [{**row, "seconds": 1e4} for row in run.metrics]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = measure_precision(run, data, data.cases[:11], options, console)
    assert read_precision(run.path) == found
    assert found.weights == weights_of(run.path)
    assert found.device == "cpu"
    assert found.processor
    assert set(found.seconds) == {"32", "bf16"}
    if found.dice:
        masks = {}
        for precision, dice in found.dice.items():
            masks[precision] = tmp_path / precision
            names = [case.name for case in data.cases[:11]]
            deconvseg.predict(
                root / "images", run.path, masks[precision], precision=precision, cases=names, device="cpu"
            )
            scores = deconvseg.evaluate(root, masks[precision], run=run.path, metrics="dice")
            assert scores.mean_dice == pytest.approx(dice, abs=1e-12)
        alike = deconvseg.evaluate(masks["32"], masks["bf16"], metrics="dice")
        assert found.agreement == pytest.approx(alike.mean_dice, abs=1e-12)
        assert found.cases == 11
        assert f"on 11 validation cases; the masks agree with Dice {found.agreement:.4f}" in found.why
    else:
        assert found.choice == "32"
        assert "bfloat16 is not faster" in found.why
    name = "bfloat16" if found.choice == "bf16" else "float32"
    assert console.said[-1] == f"predict computes in {name}: {found.why}"
    assert found.why in Path(write_report(run.path)).read_text(encoding="utf-8")


@needs_bfloat16
def test_what_cannot_be_measured_is_recorded_with_its_reason(
    many: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, root = many
    data, options = open_dataset(root), TrainOptions(dataset=str(root), device="cpu")
    monkeypatch.setattr(precisions, "_time_windows", lambda *_: {"32": 2.0, "bf16": 1.0})
    rows = [{**row, "seconds": 1e-3} for row in run.metrics]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predicted: list[str] = []
    compare = precisions._Comparison.predict
    monkeypatch.setattr(
        precisions._Comparison,
        "predict",
        lambda self, cases: predicted.extend(case.name for case in cases) or compare(self, cases),
    )
    # 5 % of a millisecond is over after the first case.
    found = measure_precision(run, data, data.cases, options, Listening())
    assert re.search(r"fewer than 10 of 12 cases fit into .* \(5% of the training's time\)$", found.why)
    assert len(predicted) == 1
    few = measure_precision(run, data, data.cases[:9], options, Listening())
    assert "9 validation cases cannot show a loss of 0.0005" in few.why
    none = measure_precision(run, data, (), options, Listening())
    assert "0 validation cases cannot show" in none.why
    monkeypatch.setattr(precisions, "why_bfloat16_is_slow", lambda device: f"{device} is a test")
    lacking = measure_precision(run, data, data.cases, options, Listening())
    assert lacking.why == "bfloat16 was not measured: cpu is a test"
    for measured in (found, few, none, lacking):
        assert (measured.choice, measured.dice, measured.agreement) == ("32", {}, None)
    decided = decide_precision("auto", [run], "cpu")
    assert (decided.precision, decided.lines) == ("32", (f"precision: float32, because {lacking.why}",))


@pytest.mark.parametrize(("lowered", "choice"), [(0.81, "bf16"), (0.7996, "bf16"), (0.7994, "32"), (0.5, "32")])
def test_a_loss_of_at_most_half_a_thousandth_allows_bfloat16(lowered: float, choice: str) -> None:
    found = _choose(MeasuredPrecision(choice="32", why=""), {"32": 0.8, "bf16": lowered}, 12, 0.9991)
    assert found.choice == choice
    assert ("a loss of more than 0.0005" in found.why) == (choice == "32")
    assert f"mean Dice {lowered:.4f} in bfloat16 and 0.8000 in float32 on 12 validation cases" in found.why
    assert found.why.endswith("; the masks agree with Dice 0.9991")
