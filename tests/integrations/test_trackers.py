"""Trainings followed by TensorBoard, MLflow and Weights & Biases, read back by their own readers."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consoles import Listening
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.evaluation import read_evaluation
from deconvseg.integrations import trackers
from deconvseg.runs import Run
from deconvseg.training import train
from plans import tiny_plan
from shared_runs import edit_json, full_disk

NAMES = ("tensorboard", "mlflow", "wandb")
PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}


def need(name: str) -> None:
    for package in PACKAGES[name]:
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, in which nothing is sent anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def options(discs: Path, **recipe: Any) -> dict[str, Any]:
    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 2, "validate_every": 1, **recipe})
    return {"plan": plan, "splits": discs / "splits.json", "device": "cpu", "workers": 0}


def stopped_and_resumed(discs: Path, output: Path, monkeypatch: pytest.MonkeyPatch, track: str) -> Run:
    """A run that is tracked, fails in its second epoch, and is resumed without naming the tracker again."""
    with full_disk(monkeypatch):
        train(discs, output, **options(discs), track=track)
    return train(discs, output, resume=True)


def final_dice(run: Run) -> float:
    return read_evaluation(run.validation / "metrics.json").summary["classes"]["255"]["dsc"]["mean"]


def events(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tracking" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def test_tensorboard_has_curves_plan_pictures_and_final_scores(
    discs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("tensorboard")
    run = stopped_and_resumed(discs, place / "run", monkeypatch, "tensorboard")
    found = events(run)
    loss = [(event.step, event.value) for event in found.Scalars("train_loss")]
    assert loss == [(row["step"], pytest.approx(row["train_loss"])) for row in run.metrics]
    assert [event.value for event in found.Scalars("final/Dice/disc")] == [pytest.approx(final_dice(run))]
    assert {"progress", "validation_worst", "validation_best"} == set(found.Tags()["images"])
    assert found.Images("progress")[0].encoded_image_string.startswith(b"\x89PNG")
    texts = [text.string_val[0].decode() for tag in ("plan", "status") for text in _texts(found, tag)]
    assert json.loads(texts[0].strip("`json\n"))["model"]["name"] == "deconver"
    assert texts[-1] == "finished"
    # The files of the trackers are no part of the run's record, which stays whole.
    assert not [name for name in run.manifest["files"] if name.startswith("tracking")]


def _texts(found: Any, tag: str) -> list[Any]:
    return [event.tensor_proto for event in found.Tensors(f"{tag}/text_summary")]


def check_mlflow(client: Any, run: Run, folder: Path) -> None:
    """One tracked run has everything of a run that was resumed."""
    (experiment,) = [one for one in client.search_experiments() if one.name == "deconvseg"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.info.run_name == run.path.name
    assert tracked.data.params["model/name"] == "deconver"
    assert tracked.data.params["recipe/epochs"] == "2"
    history = client.get_metric_history(tracked.info.run_id, "train_loss")
    assert {one.step: one.value for one in history} == {row["step"]: row["train_loss"] for row in run.metrics}
    assert tracked.data.metrics["final/Dice/disc"] == pytest.approx(final_dice(run))
    pictures = {file.path for file in client.list_artifacts(tracked.info.run_id, "pictures")}
    assert pictures == {f"pictures/{name}.png" for name in ("progress", "validation_worst", "validation_best")}
    plan = Path(client.download_artifacts(tracked.info.run_id, "plan.json", str(folder)))
    assert json.loads(plan.read_text())["model"]["name"] == "deconver"


@pytest.mark.slow
def test_mlflow_has_all_of_a_resumed_run_in_one_run_of_a_local_store(
    discs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mlflow")
    from mlflow.tracking import MlflowClient

    run = stopped_and_resumed(discs, place / "run", monkeypatch, "mlflow")
    check_mlflow(MlflowClient(f"sqlite:///{place / 'mlflow.db'}"), run, place)


@pytest.fixture
def mlflow_server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real server on the loopback address."""
    need("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ("--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", str(place / "kept"))
    packages = Path(sys.prefix) / "services"
    if not (packages / "mlflow").is_dir():
        pytest.skip("MLflow's server is not installed; `make test-services` installs it")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *store]
    with (place / "server.log").open("wb") as log:
        environment = os.environ | {"PYTHONPATH": str(packages)}
        server = subprocess.Popen(
            [*command, "--workers", "1"], stdout=log, stderr=log, start_new_session=True, env=environment
        )
        try:
            _wait_for(port, server, place / "server.log")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)


def _wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-2000:]
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


@pytest.mark.service
def test_mlflow_logs_to_a_server(discs: Path, place: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    run = stopped_and_resumed(discs, place / "run", monkeypatch, "mlflow")
    check_mlflow(MlflowClient(mlflow_server), run, place)
    assert not (place / "mlflow.db").exists()


def records(file: Path) -> list[Any]:
    """The records of an offline run of W&B: a log of LevelDB's format with its own messages."""
    from wandb.proto import wandb_internal_pb2

    content, found, message, place = file.read_bytes(), [], b"", 7
    assert content.startswith(b":W&B")
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        message += content[place + 7 : place + 7 + size]
        place += 7 + size
        # 1 is a whole message, 4 the last part of one.
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            found.append(record)
            message = b""
    return found


@pytest.mark.slow
def test_wandb_has_both_parts_of_a_resumed_run_offline(
    discs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("wandb")
    run = stopped_and_resumed(discs, place / "run", monkeypatch, "wandb")
    files = sorted((run.path / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    parts = [records(file) for file in files]
    started = [record.run for part in parts for record in part if record.WhichOneof("record_type") == "run"]
    assert len(files) == 2
    assert {one.run_id for one in started} == {json.loads((run.path / "tracked.json").read_text())["wandb"]}
    assert {one.project for one in started} == {"deconvseg"}
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for part in parts
        for record in part
        if record.WhichOneof("record_type") == "history"
    ]
    losses = {row["trainer/global_step"]: row["train_loss"] for row in rows if "train_loss" in row}
    assert losses == {row["step"]: pytest.approx(row["train_loss"]) for row in run.metrics}
    assert [row["final/Dice/disc"] for row in rows if "final/Dice/disc" in row] == [pytest.approx(final_dice(run))]
    pictures = {re.sub(r"_\d+_\w+\.png$", "", path.name) for file in files for path in file.parent.rglob("*.png")}
    assert pictures == {"progress", "validation_worst", "validation_best"}
    # What a console, a command or a repository says may name cases.
    assert not [path for part in files for path in part.parent.rglob("output.log")]
    assert all(b"disc4" not in file.read_bytes() for file in files)


class Counting:
    """A tracker of a caller beside those with names."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def start(self, run: Run) -> None:
        """Do nothing."""

    def log(self, step: int, values: Any) -> None:
        self.steps.append(step)

    def picture(self, name: str, png: bytes) -> None:
        """Do nothing."""

    def finish(self, status: str) -> None:
        """Do nothing."""


def test_one_that_fails_is_told_once_and_the_others_go_on(
    discs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("tensorboard")
    logged = trackers.logged.LoggedTracker

    def gone(self: Any, step: int, values: Any) -> None:
        raise ConnectionError("no route to\nthe server")

    monkeypatch.setattr(logged, "log", gone)
    console, counting = Listening(), Counting()
    run = train(discs, place / "run", **options(discs), track=["tensorboard"], trackers=[counting], console=console)
    assert run.finished
    assert counting.steps == [2, 4]
    told = [line for line in console.said if "tracker" in line]
    assert told == [
        "warning: the tracker TensorBoardTracker failed (ConnectionError: no route to the server); it is dropped"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_without_its_package_nothing_is_made_and_the_extra_is_named(
    discs: Path, place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name][0], None)
    with pytest.raises(MissingPackageError, match=rf"`track='{name}'` needs .*pip install 'deconvseg\[{name}\]'"):
        train(discs, place / "run", **options(discs), track=name)
    assert not (place / "run").exists()


def test_an_unknown_name_is_refused(discs: Path, place: Path) -> None:
    with pytest.raises(InputError, match=r"'mlfow' is unknown: did you mean 'mlflow'\?"):
        train(discs, place / "run", **options(discs), track=["mlfow"])


def test_the_plan_that_a_tracker_gets_names_no_case(trained: Path, place: Path) -> None:
    need("tensorboard")
    path = shutil.copytree(trained, place / "run")
    edit_json(path / "plan.json", excluded={"Doe_John": "empty"}, warnings=["Doe_John has another spacing"])
    tracker = trackers.create_tracker("tensorboard")
    tracker.start(Run(path))
    tracker.finish("interrupted")
    (text,) = _texts(events(Run(path)), "plan")
    assert "Doe_John" not in text.string_val[0].decode()
    assert "… has another spacing" in text.string_val[0].decode()


@pytest.mark.slow
def test_each_fold_of_a_cross_validation_is_tracked_by_its_name(discs: Path, place: Path) -> None:
    need("mlflow")
    from mlflow.tracking import MlflowClient

    from deconvseg.experiments import crossval

    asked = options(discs, epochs=1) | {"splits": None}
    result = crossval(discs, place / "cv", **asked, folds=2, jobs=2, track=["mlflow", "tensorboard"])
    assert not result.failed
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "deconvseg"]
    tracked = client.search_runs([experiment.experiment_id])
    assert {one.info.run_name for one in tracked} == {"cv/fold_0", "cv/fold_1"}
    assert {one.data.tags["crossval"] for one in tracked} == {"cv"}
    assert all((place / "cv" / f"fold_{fold}" / "tracking" / "tensorboard").is_dir() for fold in (0, 1))
