"""The progress of a training: how long it will take, and how long it still takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoles import Listening
from deconvseg.errors import InterruptionError
from deconvseg.options import TrainOptions
from deconvseg.planning import Prediction
from deconvseg.progress import Timed
from deconvseg.training import foresee, train
from deconvseg.training.foreseeing import REPORT_SECONDS, Outlook
from deconvseg.training.telling import Pace
from plans import tiny_plan


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


OUTLOOK = Outlook(
    epochs=4, steps_per_epoch=5, max_seconds=None, validate_every=2, validated=3, predicted=6, case_seconds=None
)


@settings(deadline=None)
@given(
    step=st.floats(0.01, 100), case=st.floats(0.01, 100), between=st.floats(0, 10), epochs=st.integers(1, 6),
    every=st.integers(1, 3), start=st.floats(0, 1e5),
)  # fmt: skip
def test_the_time_left_is_exact_at_a_constant_pace(
    step: float, case: float, between: float, epochs: int, every: int, start: float
) -> None:
    """Once each kind of work has been seen, what is left is what will pass."""
    clock = Clock()
    clock.now = start
    outlook = replace(OUTLOOK, epochs=epochs, validate_every=every)
    pace = Pace(outlook, clock)
    told: list[tuple[float, float]] = []
    for epoch in range(epochs):
        pace.begin_epoch()
        for number in range(outlook.steps_per_epoch):
            clock.now += step
            pace.end_step()
            left = pace.left(epoch * outlook.steps_per_epoch + number + 1, clock.now - start)
            if epoch >= every:
                assert left is not None
                told.append((clock.now, left))
        if (epoch + 1) % every == 0:
            pace.begin_validation()
            clock.now += outlook.validated * case
            pace.end_validation(outlook.validated)
        clock.now += between
    end = clock.now + outlook.predicted * case + REPORT_SECONDS
    for now, left in told:
        assert now + left == pytest.approx(end, rel=1e-6, abs=1e-4)


def test_nothing_is_said_of_the_time_before_the_pace_is_known() -> None:
    clock = Clock()
    pace = Pace(OUTLOOK, clock)
    pace.begin_epoch()
    for number in range(2):
        clock.now += 30.0
        pace.end_step()
        # The first steps prepare.
        assert pace.left(number + 1, clock.now) is None
    clock.now += 1.0
    pace.end_step()
    assert pace.left(3, clock.now) == pytest.approx(17 * 1.0 + REPORT_SECONDS)


def test_the_clock_decides_where_it_ends_the_training_first() -> None:
    pace = Pace(replace(OUTLOOK, max_seconds=60.0, case_seconds=2.0), Clock())
    assert pace.left(1, 15.0) == pytest.approx(45 + 6 * 2 + REPORT_SECONDS)
    assert pace.left(1, 75.0) == pytest.approx(6 * 2 + REPORT_SECONDS)


def test_the_whole_time_is_the_sum_of_what_is_said() -> None:
    plan = tiny_plan(recipe={"epochs": 10, "steps_per_epoch": 60, "validate_every": 4})
    figures = {"device": "cpu", "step_seconds": 0.9, "training_seconds": 720.0, "memory_bytes": 1}
    figures |= {"inference_memory_bytes": 1, "memory_limit_bytes": 1}
    plan = plan.model_copy(update={"predicted": Prediction.model_validate(figures)})
    options = TrainOptions(dataset="data")
    outlook = foresee(plan, options, 6, 6, shapes=[(64, 64)] * 6)
    assert outlook.training == pytest.approx(10 * 60 * 0.9 / 0.75)
    assert outlook.case_seconds is not None
    assert outlook.validation == pytest.approx(6 * outlook.case_seconds)
    assert outlook.total == pytest.approx(outlook.training + outlook.validation + REPORT_SECONDS)
    said = outlook.describe(72.0)
    assert said is not None
    assert said.startswith("takes about 13 min: planning 72 s (done), training 12 min, predicting 6 validation cases ")
    assert said.endswith(", report 4 s")
    halfway = foresee(plan, options, 6, 6, shapes=[(64, 64)] * 6, rows=[{"seconds": 90.0}] * 5)
    assert halfway.training == pytest.approx(outlook.training / 2)
    limited = foresee(plan, replace(options, max_seconds=300.0), 6, 0)
    assert (limited.epochs, limited.training) == (None, 300.0)
    assert limited.describe() == "takes about 5 min: training 5 min (the limit), report 4 s"
    assert foresee(tiny_plan(), options, 6, 2).describe() is None


def test_work_that_is_finished_past_the_time_limit_is_counted() -> None:
    """The first step, and the first validation where it selects the weights."""
    plan = tiny_plan(recipe={"epochs": 10, "steps_per_epoch": 60, "validate_every": 4})
    figures = {"device": "cpu", "step_seconds": 49.0, "training_seconds": 720.0, "memory_bytes": 1}
    figures |= {"inference_memory_bytes": 1, "memory_limit_bytes": 1}
    plan = plan.model_copy(update={"predicted": Prediction.model_validate(figures)})
    options = TrainOptions(dataset="data", max_seconds=20.0)
    outlook = foresee(plan, options, 6, 0)
    assert outlook.training == 49.0
    said = "training 49 s (past the limit of 20 s, to finish one step), report 4 s"
    assert outlook.describe() == f"takes about 53 s: {said}"
    best = plan.with_values({"recipe.weights": "best"})
    selecting = foresee(best, options, 6, 6, shapes=[(64, 64)] * 6)
    assert selecting.training == pytest.approx(49.0 + selecting.validation)
    assert "(past the limit of 20 s, to finish the first validation)" in str(selecting.describe())
    scored = foresee(best, replace(options, max_seconds=5000.0), 6, 6, rows=[{"seconds": 60.0, "val_dice": 0.5}])
    assert (scored.training, scored.finishes) == (4940.0, None)
    early = foresee(
        best.with_values({"recipe.steps_per_epoch": 2}), replace(options, max_seconds=5000.0), 6, 6, shapes=[(64, 64)]
    )
    assert (early.training, early.finishes) == (5000.0, None)


def test_a_training_tells_where_it_is_how_fast_and_how_long(discs: Path, tmp_path: Path) -> None:
    console = Listening()
    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 4, "validate_every": 1})
    train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", console=console)
    told = [(text, done) for text, done, total in console.told if total is None and text.startswith("epoch")]
    last, done = told[-1]
    assert last.startswith("epoch 2 of 2, validating disc5 (2 of 2), best Dice ")
    # The final validation and the report are still to come.
    assert done < 1.0
    assert [done for _, done in told] == sorted(done for _, done in told)
    steps = [text for text, _ in told if "step 4 of 4" in text]
    assert [text.partition(",")[0] for text in steps] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all(" steps/s, loss " in text or " s a step, loss " in text for text in steps)
    assert "best Dice" in steps[1]
    assert "(epoch 1" in steps[1]
    lefts = [done.left for _, done in told if isinstance(done, Timed)]
    assert len(lefts) == len(told)
    assert lefts[0] is None
    assert all(left is not None and math.isfinite(left) and left >= 0 for left in lefts[3:])
    (took,) = [line for line in console.said if line.startswith("took ")]
    assert "training" in took or took.endswith("s")


class Interrupting(Listening):
    """Interrupts where a piece of work begins."""

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def track(self, text: str, total: int | None = None):  # type: ignore[no-untyped-def]
        if text == self.work:
            raise KeyboardInterrupt
        return super().track(text, total)


@pytest.mark.parametrize(
    "work, said",
    [
        ("hashing the data", "interrupted while planning; no epoch was completed, but the plan is kept in {run}"),
        (
            "preparing train cases",
            "interrupted while preparing the cases; no epoch was completed, but the plan is",
        ),
        ("predicting", "interrupted while predicting the validation cases; the trained weights are kept in {run}"),
        ("writing the report", "interrupted while writing the report; the trained weights are kept in {run}; `resume"),
    ],
)
def test_an_interruption_says_what_was_done_and_what_is_kept(discs: Path, tmp_path: Path, work: str, said: str) -> None:
    run = tmp_path / "run"
    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 2, "validate_every": 1})
    options = {"splits": discs / "splits.json", "device": "cpu"}
    with pytest.raises(InterruptionError) as interruption:
        train(discs, run, plan=plan, console=Interrupting(work), **options)
    assert str(interruption.value).startswith(said.format(run=run))
    assert train(discs, run, resume=True, device="cpu").finished
