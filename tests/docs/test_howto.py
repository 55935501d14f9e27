"""The code of a how-to page runs as it stands, with the paths of real data in place of its names."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from deconvseg import predict
from nn.peers import look_for_peers
from plans import tiny_plan

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def run_page(page: str, under: str = "", **paths: Path) -> dict[str, Any]:
    """Run all Python blocks of a page, or of a section of it, one after the other, and return their names."""
    names: dict[str, Any] = {}
    text = (HOW_TO / page).read_text(encoding="utf-8")
    if under:
        text = text.partition(f"\n## {under}")[2].partition("\n## ")[0]
        assert text, f"{page} has no section {under}"
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for name, path in paths.items():
            block = block.replace(f'"{name}"', repr(str(path)))
        exec(compile(block, page, "exec"), names)
    return names


def test_comparing_runs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_page("read-the-report.md", RUN1=trained, RUN2=trained)
    assert "disc dsc 0.0 (0.0, 0.0) 1.0" in capsys.readouterr().out


def test_following_and_spreading(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 2, "validate_every": 2}).model_dump_json())
    paths = {"DATASET": discs, "RUN": tmp_path / "run", "PLAN": plan, "SCANS": discs / "images"}
    names = run_page("follow-and-spread.md", **paths, MASKS=tmp_path / "masks")
    assert len((tmp_path / "lines.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "progress.png").read_bytes() == (tmp_path / "run" / "progress.png").read_bytes()
    printed = capsys.readouterr().out
    assert "the training has finished" in printed
    assert names["bar"].done == 1.0
    assert "8 masks, 0 problems" in printed
    assert len(list((tmp_path / "masks").glob("*.png"))) == len(names["done"].written) == 8
    assert names["logits"].shape[:2] == (1, 2)


def test_thresholds(discs: Path, trained: Path, tmp_path: Path) -> None:
    names = run_page("thresholds.md", SCANS=discs / "images", RUN=trained, MASKS=tmp_path / "masks")
    assert names["done"].threshold == 0.35
    assert names["probabilities"].shape == (2, 40, 48)


def test_sharing_a_model(
    discs: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("share-a-model.md", SCANS=discs / "images", RUN=trained, MASKS=tmp_path / "masks")
    assert "8 masks" in capsys.readouterr().out


def test_using_files_as_they_lie(discs: Path, trained: Path, tmp_path: Path) -> None:
    """The files of the discs with images and masks in one folder, and their masks as they were predicted."""
    folder = tmp_path / "ultrasound" / "cyst"
    folder.mkdir(parents=True)
    for image in (discs / "images").glob("*.png"):
        shutil.copy(image, folder)
        shutil.copy(discs / "masks" / image.name, folder / f"{image.stem}_mask.png")
    for end in ("", "_mask"):
        shutil.copy(folder / f"disc0{end}.png", folder / f"normal{end}.png")
    masks = tmp_path / "masks"
    masks.mkdir()
    for mask in (trained / "validation").glob("*.png"):
        shutil.copy(mask, masks / f"cyst_{mask.name}")
    names = run_page("use-files-as-they-lie.md", ULTRASOUND=folder.parent, MASKS=masks)
    assert names["report"].labels[1].name == "lesion"
    assert [str(excluded) for excluded in names["dataset"].excluded] == ["cyst_normal (no lesion)"]
    assert len(names["scores"].cases) == 2


def test_a_network_in_a_loop_of_ones_own(discs: Path, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("ignite", reason="pytorch-ignite is not installed (extra monai)")
    paths = {"image.png": discs / "images" / "disc0.png", "mask.png": discs / "masks" / "disc0.png"}
    names = run_page("network-in-your-loop.md", RUN=trained, **paths)
    assert names["losses"][-1] < names["losses"][0]
    assert names["trainer"].state.iteration == 4
    truth = names["read_label_map"](paths["mask.png"]).pixels
    assert (names["mask"].pixels == truth).mean() > 0.95
    assert names["probabilities"].shape == (2, *truth.shape)


OTHERS = "other-code-bases.md"


@pytest.mark.slow
def test_dtc_in_a_trained_unet_of_segmentation_models(discs: Path, tmp_path: Path) -> None:
    look_for_peers()
    pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan().model_dump_json())
    names = run_page(OTHERS, "segmentation_models.pytorch", DATASET=discs, **{"plan.json": plan})
    assert names["same"]
    assert len(names["changes"]) == 5
    assert names["second"] < names["first"]
    assert names["mask"].pixels.max() == 255


@pytest.mark.slow
def test_a_queue_of_torchio_in_the_loop(balls: Path, tmp_path: Path) -> None:
    look_for_peers("torchio")
    pytest.importorskip("torchio", reason="torchio is not installed")
    tree: dict[str, Any] = {
        "spatial_dims": 3,
        "spacing": [1, 1, 2],
        "patch_size": [16, 16, 8],
        "channels": [{"name": "T1"}, {"name": "T2"}],
        "labels": {"values": [0, 3, 7], "names": ["background", "shell", "core"]},
        "recipe": {"learning_rate": 0.01},
    }
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan(**tree, model={"name": "deconver", "config": config}).model_dump_json())
    names = run_page(OTHERS, "TorchIO", VOLUMES=balls, RUN=tmp_path / "run", **{"plan.json": plan})
    assert len(names["task"].train_losses) == len(names["loader"]) == 10
    assert names["task"].global_step == 30
    assert names["task"].train_losses[-1] < 1.6
    done = predict(balls, tmp_path / "run", tmp_path / "masks")
    assert len(done.written) == 5
    assert not done.problems


def test_the_trainer_of_hugging_face(discs: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed; it is too large for every run")
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan().model_dump_json())
    paths = {"DATASET": discs, "RUN": tmp_path / "run", "TRAINER": tmp_path / "trainer", "plan.json": plan}
    names = run_page(OTHERS, "Hugging Face", **paths)
    losses = [row["loss"] for row in names["trainer"].state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    assert len(predict(discs, tmp_path / "run", tmp_path / "masks").written) == 8
