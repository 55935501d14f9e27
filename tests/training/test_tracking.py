"""Trackers follow a training by its numbers, several at once, and never stop it."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from consoles import Listening
from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.runs import Run
from deconvseg.training import train
from deconvseg.training.tracking import Guests
from plans import tiny_plan
from shared_runs import full_disk


class Lines:
    """A tracker of plain files: a line of JSON for each call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def start(self, run: Run) -> None:
        self._write(start=run.plan.model.name, process=os.getpid())

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        self._write(step=step, values=values)

    def picture(self, name: str, png: bytes) -> None:
        self.file.with_name(f"{name}-followed.png").write_bytes(png)

    def finish(self, status: str) -> None:
        self._write(finish=status)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def _write(self, **entry: Any) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")


class OfLightning:
    """A tracker made of one of Lightning's loggers: TensorBoard, W&B, MLflow, CSV files and others."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def start(self, run: Run) -> None:
        self.logger.log_hyperparams({"model": run.plan.model.name})

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        self.logger.log_metrics({key: value for key, value in values.items() if value is not None}, step)

    def picture(self, name: str, png: bytes) -> None:
        pass

    def finish(self, status: str) -> None:
        self.logger.finalize(status)


class Unreachable(OfLightning):
    """A tracker whose server is gone; it spoils what it is given."""

    def __init__(self) -> None:
        self.asked = 0

    def start(self, run: Run) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        self.asked += 1
        values.clear()  # type: ignore[attr-defined]
        raise ConnectionError("no route to\nthe server")


def options(discs: Path, **recipe: Any) -> dict[str, Any]:
    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 2, "validate_every": 2, **recipe})
    return {"plan": plan, "splits": discs / "splits.json", "device": "cpu"}


def test_several_get_the_rows_of_the_run_and_one_that_fails_is_told_once(discs: Path, tmp_path: Path) -> None:
    lines, server, console = Lines(tmp_path / "lines.jsonl"), Unreachable(), Listening()
    logger = OfLightning(CSVLogger(tmp_path, name="csv", version="0"))
    trackers = [server, lines, logger]
    run = train(discs, tmp_path / "run", **options(discs), console=console, trackers=trackers)
    start, *logged, end = lines.calls
    assert start == {"start": "deconver", "process": os.getpid()}
    assert logged == [{"step": row["step"], "values": row} for row in run.metrics]
    assert [entry["step"] for entry in logged] == [2, 4]
    assert end == {"finish": "finished"}
    assert (tmp_path / "progress-followed.png").read_bytes() == (run.path / "progress.png").read_bytes()
    with (tmp_path / "csv" / "0" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["train_loss"]) for row in rows] == [row["train_loss"] for row in run.metrics]
    assert server.asked == 1
    told = [line for line in console.said if "tracker" in line]
    assert told == ["warning: the tracker Unreachable failed (ConnectionError: no route to the server); it is dropped"]
    assert run.finished


def test_a_resumed_run_logs_the_epochs_that_it_adds(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(tmp_path / "lines.jsonl")
    # The run's own tracker is no guest: without its rows the run cannot go on.
    with full_disk(monkeypatch):
        train(discs, tmp_path / "run", **options(discs), trackers=[lines])
    train(discs, tmp_path / "run", resume=True, trackers=[lines])
    calls = [next(iter(entry.items())) for entry in lines.calls]
    assert calls == [
        ("start", "deconver"),
        ("step", 2),
        ("finish", "failed"),
        ("start", "deconver"),
        ("step", 4),
        ("finish", "finished"),
    ]


def test_what_several_processes_log_reaches_the_trackers_of_the_one_that_started_them(
    discs: Path, tmp_path: Path
) -> None:
    lines = Lines(tmp_path / "lines.jsonl")
    asked = options(discs, epochs=1, validate_every=1)
    run = train(discs, tmp_path / "run", **asked, devices=2, workers=0, trackers=[lines])
    start, logged, _ = lines.calls
    assert start["process"] == os.getpid()
    assert [logged["values"]] == run.metrics


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (DeconvsegError("no"), "failed"),
        (InterruptionError("no"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
    ],
    ids=str,
)
def test_the_status_says_how_the_training_ended(
    trained: Path, tmp_path: Path, error: BaseException | None, status: str
) -> None:
    lines = Lines(tmp_path / "lines.jsonl")

    def work() -> None:
        with Guests([lines], Listening()).following(Run(trained)):
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert lines.calls[-1] == {"finish": status}


class Half:
    """A tracker that is not finished."""

    def start(self, run: Run) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "trackers", [None, Half(), [Half()], [Lines], "mlflow"], ids=["None", "object", "list", "class", "text"]
)
def test_what_is_no_tracker_is_refused_before_anything_is_made(discs: Path, tmp_path: Path, trackers: Any) -> None:
    with pytest.raises(InputError, match=r"^`trackers=.*: give a sequence of trackers: objects with start, log, "):
        train(discs, tmp_path / "run", trackers=trackers)
    assert not (tmp_path / "run").exists()
