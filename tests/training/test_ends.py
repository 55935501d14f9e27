"""What ends a training: its time, its epochs, or validation cases that cannot be predicted."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Predictor
from deconvseg.reporting.curves import draw_curves
from deconvseg.runs import Run
from deconvseg.training import Silent, TrainOptions, decide_plan, starting, train
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


class Stopped(BaseException):
    """What ends a training like a kill: nothing catches it."""


def stop_at(write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process stop just before its n-th file is moved into its place."""
    replace, count = Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal count
        count += self.name.startswith(".unfinished-")
        if count == write:
            raise Stopped
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)


def test_a_run_that_is_stopped_at_any_write_is_taken_up_or_replaced(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start meets what the one before has left: first without, then with a completed epoch."""
    recipe = {"epochs": 1, "steps_per_epoch": 1, "validate_every": 1, "validation_cases": 1}
    options = {"plan": tiny_plan(recipe=recipe), "splits": discs / "splits.json", "device": "cpu"}
    run, resume = Run(tmp_path / "run"), False
    for write in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 1, 2, 3, 4):
        if resume and write > 4:
            continue
        with monkeypatch.context() as patch:
            stop_at(write, patch)
            with pytest.raises(Stopped):
                train(discs, run.path, **options, resume=resume)
        assert not (run.path / ".lock").exists()
        resume = run.resume_file.exists()
    assert resume
    with pytest.raises(InputError, match="continue it with `resume=True`"):
        train(discs, run.path, **options)
    train(discs, run.path, **options, resume=True)
    assert run.finished


def test_a_run_without_a_completed_epoch_begins_anew_as_it_was_asked_for(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 1})
    run = Run(tmp_path / "run")
    for write, message in ((2, "stopped before it began; start it without `resume`"), (8, "")):
        with monkeypatch.context() as patch:
            stop_at(write, patch)
            with pytest.raises(Stopped):
                train(discs, run.path, plan=plan, splits=discs / "splits.json", device="cpu", seed=3)
        if message:
            with pytest.raises(InputError, match=message):
                train(discs, run.path, resume=True)
    train(discs, run.path, resume=True)
    assert run.finished
    assert run.plan.recipe == plan.recipe
    assert run.config["seed"] == 3


def test_a_full_disk_says_how_the_training_goes_on(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"epochs": 2, "steps_per_epoch": 1, "validate_every": 1, "validation_cases": 1}
    options = {"plan": tiny_plan(recipe=recipe), "splits": discs / "splits.json", "device": "cpu"}
    save = Run.save_weights

    def full(self: Run, *args: object) -> None:
        if self.resume_file.exists():
            monkeypatch.setattr("os.fsync", _full)
        save(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "save_weights", full)
    advice = r"disk is full while writing .*; free some space and continue with `resume=True`"
    with pytest.raises(DeconvsegError, match=advice):
        train(discs, tmp_path / "run", **options)
    monkeypatch.undo()
    assert train(discs, tmp_path / "run", **options, resume=True).finished


def _full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_two_trainings_in_one_folder_are_refused(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"epochs": 1, "steps_per_epoch": 1}
    options = {"plan": tiny_plan(recipe=recipe), "splits": discs / "splits.json", "device": "cpu"}
    monkeypatch.setattr(starting, "decide_plan", _Meanwhile(discs, tmp_path / "run", options))
    assert train(discs, tmp_path / "run", **options).finished


class _Meanwhile:
    """Deciding the plan, while another training is started in the same folder."""

    def __init__(self, discs: Path, output: Path, options: dict[str, object]) -> None:
        self.second = (discs, output)
        self.options = options

    def __call__(self, *arguments: object) -> object:
        for resume in (False, True):
            with pytest.raises(InputError, match=f"is in use by process {os.getpid()} "):
                train(*self.second, **self.options, resume=resume)  # type: ignore[arg-type]
        return decide_plan(*arguments)  # type: ignore[arg-type]


class _Listening(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.told.append(text)


def test_the_end_tells_the_dice_of_all_cases_beside_that_of_the_sample(discs: Path, tmp_path: Path) -> None:
    console = _Listening()
    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 1, "validate_every": 1, "validation_cases": 1})
    run = train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", console=console)
    (row,) = run.metrics
    assert (row["val_cases"], row["val_cases_of"]) == (1, 2)
    assert row["val_with_truth"] == row["val_dice"]
    (end,) = (text for text in console.told if text.startswith("validation: mean Dice"))
    assert "over 2 cases" in end
    assert "structures missed" in end
    assert f"while training it was Dice {row['val_dice']:.3f} over 1 of these cases (epoch 1)" in "\n".join(
        console.told
    )
    assert draw_curves(run.metrics).axes[1].get_title(loc="left") == "Validation Dice (1 of 2 cases)"


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_ends_a_training_with_its_code_and_leaves_it_to_be_resumed(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"epochs": 2, "steps_per_epoch": 2, "validate_every": 2, "validation_cases": 1}
    options = {"plan": tiny_plan(recipe=recipe), "splits": discs / "splits.json", "device": "cpu"}
    step = SegmentationTask.training_step

    def signalled(self: SegmentationTask, *arguments: object) -> object:
        if self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)  # type: ignore[arg-type]

    # As the command line does.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        monkeypatch.setattr(SegmentationTask, "training_step", signalled)
        with pytest.raises(SystemExit) as end:
            train(discs, tmp_path / "run", **options)
    finally:
        signal.signal(signal.SIGTERM, before)
        monkeypatch.undo()
    assert end.value.code == 143
    assert not (tmp_path / "run" / ".lock").exists()
    assert train(discs, tmp_path / "run", **options, resume=True).finished
