"""What ends a training: its time, its epochs, or validation cases that cannot be predicted."""

from pathlib import Path

import pytest

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Predictor
from deconvseg.runs import Run
from deconvseg.training import TrainOptions, train
from deconvseg.training.task import SegmentationTask
from deconvseg.training.validation import OutOfTimeError
from plans import tiny_plan


def test_a_validation_that_the_time_does_not_allow_is_dropped(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(1000))

    def look(self: SegmentationTask) -> None:
        if next(looks) == 5:
            raise OutOfTimeError

    monkeypatch.setattr(SegmentationTask, "_look_at_the_clock", look)
    options = {"plan": tiny_plan(), "splits": discs / "splits.json", "device": "cpu", "max_seconds": 1000}
    run = train(discs, tmp_path / "run", **options)
    assert [row["val_dice"] for row in run.metrics] == [None]
    assert next(looks) == 6  # the cases after it are not looked at
    assert (run.path / "report.html").exists()


def test_no_validation_begins_when_the_time_is_up(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validations: list[int] = []
    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_start", lambda self: validations.append(1))
    options = {"plan": tiny_plan(), "splits": discs / "splits.json", "device": "cpu", "max_seconds": 1e-6}
    run = train(discs, tmp_path / "run", **options)
    assert len(run.metrics) == 1
    assert not validations


def test_epochs_that_are_asked_for_end_a_run_before_its_time(discs: Path, tmp_path: Path) -> None:
    plan = tiny_plan(recipe={"epochs": 9, "steps_per_epoch": 10, "validate_every": 9})
    options = {"plan": plan, "splits": discs / "splits.json", "device": "cpu", "max_seconds": 1000, "epochs": 2}
    run = train(discs, tmp_path / "run", **options)
    assert len(run.metrics) == 2
    rates = [row["learning_rate"] for row in run.metrics]
    assert rates[-1] < 0.1 * rates[0]  # it falls over these two epochs, not over the time


def test_the_clock_alone_decides_where_nobody_asked_for_epochs() -> None:
    timed = TrainOptions("discs", max_seconds=9.0)
    plan = tiny_plan().with_reasons({"recipe.epochs": "they fit"})
    assert timed.max_epochs(plan) is None
    assert TrainOptions("discs").max_epochs(plan) == 2
    assert timed.max_epochs(plan.with_values({"recipe.epochs": 5})) == 5
    assert timed.max_epochs(plan.with_values({"recipe.name": "paper"})) == 2
    assert TrainOptions("discs", max_seconds=9.0, epochs=2).max_epochs(plan) == 2


def test_validation_cases_that_all_fail_are_told_by_the_first(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Predictor, image: object, **_: object) -> None:
        raise InputError("this image cannot be predicted")

    monkeypatch.setattr(Predictor, "segment", failing)
    with pytest.raises(DeconvsegError, match="no validation case could be predicted, first: this image cannot be"):
        train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu")
    assert not Run(tmp_path / "run").finished
