"""A run goes further than it was first asked, and says so."""

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoles import Listening
from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.reporting import write_report
from deconvseg.runs import Run, change_run
from deconvseg.training import describe_run, train
from deconvseg.training.further import End, asks_for_more
from deconvseg.training.schedule import Rise, learning_rate_factor

FRACTION = st.floats(0, 1)


@given(FRACTION, FRACTION, FRACTION, st.floats(0.001, 0.5), st.floats(0.01, 1))
def test_the_learning_rate_rises_without_a_leap_and_ends_at_zero(
    start: float, factor: float, later: float, warmup: float, warmup_from: float
) -> None:
    shape = {"warmup": warmup, "warmup_from": warmup_from}
    rise = Rise(start, factor)
    assert learning_rate_factor(start, **shape, rise=rise) == pytest.approx(factor, abs=1e-9) or start > 1 - 1e-9
    assert learning_rate_factor(1.0, **shape, rise=rise) == pytest.approx(0, abs=1e-9)
    progress = start + later * (1 - start)
    usual, risen = learning_rate_factor(progress, **shape), learning_rate_factor(progress, **shape, rise=rise)
    # Between where it stood and the schedule of the new length, and on that schedule after the rise.
    assert min(usual, factor) - 1e-9 <= risen <= max(usual, factor) + 1e-9
    if progress >= start + warmup * (1 - start):
        assert risen == usual
    assert learning_rate_factor(progress, **shape, rise=None) == usual


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_finished_run_goes_further_and_its_record_says_so(run: Path, discs: Path) -> None:
    before, console = Run(run).metrics, Listening()
    options = {"splits": discs / "splits.json", "device": "cpu"}
    assert train(discs, run, **options, epochs=5, resume=True, console=console).finished
    made = Run(run)
    rows = made.metrics
    assert rows[:4] == before
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    assert (made.plan.recipe.epochs, made.config["epochs"]) == (5, 5)
    (entry,) = made.manifest["extended"]
    assert (entry["after_epochs"], entry["epochs"], entry["before"]) == (4, 5, {"epochs": 4, "seconds": None})
    assert entry["from_progress"] == pytest.approx(4 / 5)
    assert entry["from_factor"] * made.plan.recipe.learning_rate == pytest.approx(before[-1]["learning_rate"])
    assert [line for line in console.said if "now ends after 5 epochs (before: 4 epochs)" in line]
    # Back on the schedule of five epochs at the last step.
    last = 124 / 125
    recipe = made.plan.recipe
    usual = learning_rate_factor(last, warmup=recipe.warmup, warmup_from=recipe.warmup_from)
    assert rows[-1]["learning_rate"] == pytest.approx(recipe.learning_rate * usual)
    # The same once more is the same run, and so is nothing.
    for again in ({"epochs": 5}, {}):
        train(discs, run, **options, **again, resume=True)
        assert Run(run).metrics == rows
        assert len(Run(run).manifest["extended"]) == 1
    assert json.loads((run / "manifest.json").read_text())["replaced"] == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epochs": 3}, r"`epochs=3`: .*run has already completed 4 epochs; give more"),
        ({"max_seconds": 0.01}, r"`max_seconds=0.01`: .*run has already trained for .*; give more time"),
        ({"epochs": 9, "seed": 4}, r"seed 0 → 4; omit these"),
        ({"epochs": 9, "learning_rate": 0.5}, r"recipe.learning_rate → 0.5; omit these"),
        ({"epochs": 9, "patch_size": 16}, r"patch_size → 16"),
    ],
)
def test_what_is_done_and_what_else_differs_is_refused(
    run: Path, discs: Path, asked: dict[str, int], message: str
) -> None:
    before = {path.name: path.read_bytes() for path in run.glob("*.json*")}
    with pytest.raises(InputError, match=message):
        train(discs, run, splits=discs / "splits.json", device="cpu", resume=True, **asked)
    assert {path.name: path.read_bytes() for path in run.glob("*.json*")} == before


def test_a_run_that_ends_by_the_clock_goes_further_by_the_clock(run: Path, discs: Path) -> None:
    """More time alone ends it then, whatever its epochs were."""
    spent = Run(run).metrics[-1]["seconds"]
    limit = spent + 1.0
    made = train(discs, run, splits=discs / "splits.json", device="cpu", max_seconds=limit, resume=True)
    assert made.metrics[-1]["seconds"] >= limit
    assert (made.config["epochs"], made.config["max_seconds"]) == (None, limit)
    assert len(made.metrics) > 4
    assert all(math.isfinite(row["train_loss"]) for row in made.metrics)


def test_the_epochs_of_a_run_that_its_time_limit_ended_can_be_requested_alone(run: Path, discs: Path) -> None:
    made = Run(run)
    change_run(made, made.plan.with_values({"recipe.epochs": 9}), made.config, finished=True)
    made = Run(run)
    saved = TrainOptions(discs, epochs=9, max_seconds=10.0)
    assert asks_for_more(made, saved, TrainOptions(discs, epochs=9)) == End(9, None)
    assert asks_for_more(made, saved, saved) is None


def test_a_rewritten_report_says_that_it_lost_other_metrics(run: Path) -> None:
    told = {}
    for name, metrics in (("fuller", [run / "validation" / "metrics.json"]), ("plain", [])):
        write_report(run, evaluations=metrics)
        console = Listening()
        describe_run(Run(run), console)
        told[name] = any("without the sections of other metrics" in line for line in console.said)
    assert told == {"fuller": True, "plain": False}
