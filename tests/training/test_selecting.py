"""Weights that are selected by validation: of all cases, at least once, and those of the evaluated masks."""

from pathlib import Path

import pytest

from deconvseg.errors import InputError
from deconvseg.inference import predict
from deconvseg.runs import Run
from deconvseg.training import train
from plans import tiny_plan


@pytest.fixture(scope="module")
def hurried(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose time is up within its first epoch."""
    recipe = {"epochs": 8, "steps_per_epoch": 4, "validate_every": 4, "validation_cases": 1, "weights": "best"}
    output = tmp_path_factory.mktemp("hurried") / "run"
    options = {"splits": discs / "splits.json", "device": "cpu", "max_seconds": 0.01}
    return train(discs, output, plan=tiny_plan(recipe=recipe), **options)


def test_an_epoch_is_validated_even_when_the_time_is_up_and_with_all_cases(hurried: Run) -> None:
    (row,) = hurried.metrics
    assert row["step"] < 4
    assert (row["val_cases"], row["val_cases_of"]) == (2, 2)
    assert (hurried.path / "weights_best.safetensors").is_file()


def test_the_evaluated_masks_and_the_manifest_have_the_best_weights(hurried: Run, discs: Path, tmp_path: Path) -> None:
    digest = hurried.manifest["files"]["weights_best.safetensors"]
    assert hurried.manifest["weights"] == {"choice": "best", "file": "weights_best.safetensors", "sha256": digest}
    predict(discs, hurried.path, tmp_path, split="val", weights="best", device="cpu")
    masks = sorted(path.name for path in tmp_path.glob("*.png"))
    assert masks
    assert all((tmp_path / name).read_bytes() == (hurried.validation / name).read_bytes() for name in masks)
    assert "Evaluated weights" in (hurried.path / "report.html").read_text()


def test_without_validation_cases_no_weights_are_selected(discs: Path, tmp_path: Path) -> None:
    for asked in ({"plan": tiny_plan(), "weights": "best"}, {"recipe": "dtc"}, {"values": {"recipe.weights": "best"}}):
        with pytest.raises(InputError, match=r"no case is validated here; hold out cases \(`fold=0`\), or take the f"):
            train(discs, tmp_path / "run", fold="all", splits=discs / "splits.json", device="cpu", **asked)
    assert not (tmp_path / "run" / "plan.json").exists()
