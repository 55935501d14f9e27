"""`deconvseg predict -m EXPORT` makes the masks of the run from the contract and the model alone."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deconvseg
from consoles import Listening
from deconvseg import cli
from deconvseg.data import Geometry, Image, read_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Engine, Exported, Postprocessing, Predictor, make_step, open_export
from deconvseg.integrations import export
from deconvseg.integrations.exporting.contract import Contract, ExportedModel
from deconvseg.integrations.exporting.describing import make_contract
from deconvseg.integrations.exporting.reading import plan_of
from deconvseg.planning import Plan
from plans import nested_plan, tiny_plan, volume_run
from plans import plan_of as simple_plan

OBLIQUE = np.array([[0.1, -0.9, 0.2, 5.0], [0.1, 0.1, -3.0, 40.0], [1.1, 0.1, 0.3, -7.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def exported(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to OpenVINO, away from its run."""
    pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")
    folder = tmp_path_factory.mktemp("away") / "exported"
    export(trained, folder, format="openvino", images=discs, threshold=0.3, overlap=0.4)
    return folder


def predict(images: Path, model: Path, output: Path, **options: Any) -> tuple[list[np.ndarray], list[str]]:
    console = Listening()
    done = deconvseg.predict(images, model, output, cases=["disc0", "disc1"], console=console, **options)
    return [read_label_map(mask).pixels for mask in done.written], console.said


def test_an_export_gives_the_masks_of_its_run_with_the_options_it_was_made_with(
    exported: Path, trained: Path, discs: Path, tmp_path: Path
) -> None:
    expected, _ = predict(discs, trained, tmp_path / "run", precision="32", threshold=0.3, overlap=0.4)
    found, said = predict(discs, exported, tmp_path / "export")
    for ours, theirs in zip(found, expected, strict=True):
        assert len(np.unique(ours)) == 2
        np.testing.assert_array_equal(ours, theirs)
    assert any(f"model: {exported / 'model.xml'}, 1 network of {trained.name}" in line for line in said)
    assert any("float32 by OpenVINO" in line for line in said)
    assert any("threshold 0.3 (exported)" in line for line in said)
    lower, _ = predict(discs, exported, tmp_path / "lower", threshold=0.05)
    assert sum(map(np.count_nonzero, lower)) > sum(map(np.count_nonzero, found))


def test_the_command_takes_an_export(
    exported: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-i", str(discs), "-m", str(exported), "-o", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["deconvseg", "predict", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert int(end.value.code or 0) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"][0]["export"] == str(exported)
    assert len(told["written"]) == 8


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": "best"}, "`weights='best'`: .* is an export, which holds one set of weights"),
        ({"tta": True}, "`tta`: .* was exported without mirroring"),
        ({"engine": "onnxruntime"}, "`engine='onnxruntime'`: the models are engines already; omit it"),
    ],
)
def test_what_an_export_has_decided_is_refused(
    exported: Path, discs: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        predict(discs, exported, tmp_path / "out", **options)


def test_an_edited_contract_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(exported, folder)
    tree = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    tree["decision"]["above"] = 0.7
    (folder / "contract.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(InputError, match=r"contract\.json: decision: is not what .* would write"):
        open_export(folder)


def test_a_program_that_would_be_unpickled_is_refused(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "pt2", format="torch-export", images=None)
    with pytest.raises(InputError, match="a model of torch-export is not read, because reading it unpickles"):
        deconvseg.predict(np.zeros((1, 40, 48), np.float32), tmp_path / "pt2")


def model_of(plan: Plan, networks: int) -> ExportedModel:
    return ExportedModel(
        format="onnx",
        file="model.onnx",
        sha256="0" * 64,
        networks=networks,
        maps=plan.outputs,
        any_batch=True,
        any_size=True,
        size_multiple=(1,) * plan.spatial_dims,
        sampling="gather",
    )


class Filters(Engine):
    """Some convolutions with fixed weights, as one engine."""

    def __init__(self, plan: Plan, seeds: tuple[int, ...]) -> None:
        shape = plan.outputs, len(plan.channels), *(3,) * plan.spatial_dims
        self.weights = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.networks = len(seeds)
        self.filter = torch.nn.functional.conv3d if plan.spatial_dims == 3 else torch.nn.functional.conv2d

    def logits(self, batch: Tensor) -> Tensor:
        return torch.cat([self.filter(batch, weight, padding=1) for weight in self.weights], 1)

    def fingerprint(self) -> list[bytes]:
        return [weight.numpy().tobytes() for weight in self.weights]


CT = {"name": "CT", "normalisation": "ct", "clip": [-1, 2.5], "mean": 0.3, "std": 1.7}
PLANS: dict[str, tuple[Plan, dict[str, Any]]] = {
    "usual": (tiny_plan(), {}),
    "mirrored": (tiny_plan(recipe={"augmentation": {"flip_axes": [1]}, "overlap": 0.25}), {"tta": True}),
    "regions": (nested_plan(), {"threshold": {"whole": 0.45, "inner": 0.6}}),
    "volume": (simple_plan(3, 4, (8, 12, 6), (1.3, 1.0, 2.1)), {"threshold": 0.4}),
    "regions of a volume": (simple_plan(3, 2, (8, 12, 6), (1.3, 1.0, 2.1), regions=True), {}),
    "grid": (tiny_plan(crop_margin=2, crop_to_nonzero=True, resize=[24, 40], normalise_first=True, channels=[CT]), {}),
    "classes": (simple_plan(2, 3, (16, 16), (1.0, 1.0)), {"threshold": {"1": 0.3}}),
}


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize("name", PLANS)
def test_a_contract_has_all_that_a_prediction_needs_of_a_plan(name: str, networks: int) -> None:
    plan, options = PLANS[name]
    part = plan.structures[0]
    steps = Postprocessing(steps=(make_step("keep_largest", part, plan.structures),))
    seeds = tuple(range(networks))
    apart = Predictor([(Filters(plan, (seed,)), plan) for seed in seeds], postprocessing=steps, **options)
    written = make_contract(apart, model_of(plan, networks))
    contract = Contract.model_validate_json(written.model_dump_json())
    read = plan_of(contract, "contract.json")
    together = Predictor(
        [(Filters(plan, seeds), read)],
        tta=bool(contract.windows.mirrored_axes),
        threshold=contract.decision.threshold,
        postprocessing=Postprocessing(steps=contract.postprocessing),
    )
    assert make_contract(together, model_of(plan, networks)) == written
    shape = (19, 23, 12)[: plan.spatial_dims]
    pixels = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    pixels[:, :4] = 0
    image = Image(pixels, Geometry(OBLIQUE) if plan.spatial_dims == 3 else Geometry.identity(2))
    masks = [each.segment(image, note=lambda text: None).pixels for each in (apart, together)]
    np.testing.assert_array_equal(*masks)
    assert len(np.unique(masks[0])) > 1


@pytest.mark.parametrize(
    ("part", "changed", "told"),
    [
        ("decision", {"name": "tumour"}, "decision.bounds: 'tumour' is not one of the structures"),
        ("structures", {"values": [9]}, "structures: the value 9 of '.*' is not that of a label"),
    ],
)
def test_a_contract_whose_names_or_values_do_not_exist_is_refused(part: str, changed: Any, told: str) -> None:
    plan = nested_plan()
    tree = make_contract(Predictor([(Filters(plan, (0,)), plan)]), model_of(plan, 1)).model_dump(mode="json")
    (tree["decision"]["bounds"] if part == "decision" else tree["structures"])[0].update(changed)
    with pytest.raises(InputError, match=rf"contract\.json: {told}; export again"):
        plan_of(Contract.model_validate_json(json.dumps(tree)), "contract.json")


@pytest.mark.parametrize("content", [b"no model at all", b""])
def test_a_file_that_is_no_model_is_named(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    plan = tiny_plan()
    contract = make_contract(Predictor([(Filters(plan, (0,)), plan)]), model_of(plan, 1))
    (tmp_path / "model.onnx").write_bytes(content)
    model = contract.model.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    contract.model_copy(update={"model": model}).write(tmp_path)
    with pytest.raises(DeconvsegError, match=r"model\.onnx: ONNX does not read it: "):
        open_export(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_export_of_two_runs_gives_the_masks_of_their_mean(tmp_path: Path, format: Any) -> None:
    pytest.importorskip({"onnx": "onnxscript", "openvino": "openvino"}[format])
    first, second = volume_run(tmp_path / "a"), volume_run(tmp_path / "b")
    pixels = np.random.default_rng(0).normal(size=(1, 14, 19, 11)).astype(np.float32)
    image = Image(pixels, Geometry(OBLIQUE))
    export([first, second], tmp_path / "out", format=format, tta=True)
    opened = open_export(tmp_path / "out")
    assert isinstance(opened, Exported)
    assert (opened.engine.networks, opened.mirrored) == (2, True)
    found = deconvseg.predict(image, tmp_path / "out")
    expected = deconvseg.predict(image, [first, second], precision="32", tta=True)
    assert (found.pixels == expected.pixels).mean() > 0.999
