"""Who runs tasks: on which device, with how much of the memory, and what becomes of those that fail."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from consoles import Listening
from deconvseg import experiments
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.experiments import Executor, Outcome, Processes, Serial, Share, Task, crossval
from deconvseg.planning import Plan
from deconvseg.progress import SILENT, Console
from deconvseg.runs import Run
from deconvseg.training import train
from plans import tiny_plan


def test_what_torchrun_or_slurm_started_several_times_is_refused(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NTASKS": "4", "NTASKS_PER_NODE": "4", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(InputError, match="has started 4: start it once"):
        crossval(discs, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Tasks whose functions another process can import too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    (tmp_path / "a").touch()
    return [
        Task("good", "chores:check_folders", {"folder": str(tmp_path), "names": ["a", "b"]}),
        Task("missing", "chores:check_folders", {"folder": str(tmp_path / "c"), "names": []}),
        Task("foreign", "chores:overflow"),
    ]


@pytest.mark.parametrize("executor", [Serial(), Processes(2, 2)], ids=["serial", "processes"])
def test_a_task_gives_its_value_or_its_error_and_ends_no_other(
    executor: Executor, tasks: list[Task], tmp_path: Path
) -> None:
    console = Listening()
    outcomes = {outcome.task.key: outcome for outcome in executor.run(tasks, console)}
    assert outcomes.keys() == {"good", "missing", "foreign"}
    assert outcomes["good"] == Outcome(tasks[0], ["b"])
    assert isinstance(outcomes["missing"].error, InputError)
    assert outcomes["missing"].problem == f"{tasks[1].arguments['folder']}: no such folder"
    assert outcomes["foreign"].problem == "shapes do not fit"
    assert set(console.said) == {
        f"good: looks into {tmp_path.name}",
        "missing: looks into c",
    }


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_that_is_killed_is_a_problem_in_words_and_its_task_can_be_run_again(
    tasks: list[Task], tmp_path: Path
) -> None:
    task, executor = Task("dies", "chores:die", {"path": str(tmp_path / "died")}), Processes(2, 2)
    outcomes = {outcome.task.key: outcome for outcome in executor.run([task, tasks[0]], SILENT)}
    assert outcomes["good"].value == ["b"]
    assert (outcomes["dies"].problem or "").startswith("its process was ended by SIGKILL; ")
    assert [outcome.value for outcome in executor.run([task], SILENT)] == ["alive"]


def test_tasks_that_wait_are_not_run_when_the_outcomes_are_not_wanted_any_more(tasks: list[Task]) -> None:
    outcomes = Serial().run(tasks, SILENT)
    assert next(outcomes).value == ["b"]
    outcomes.close()
    assert list(outcomes) == []


def test_a_task_is_the_same_after_json(tasks: list[Task]) -> None:
    assert [Task.from_json(task.to_json()) for task in tasks] == tasks


def test_an_executor_of_the_last_version_still_trains_folds(discs: Path, tmp_path: Path) -> None:
    with pytest.deprecated_call(match="FoldTask is going to be removed: use Task"):
        fold_task = experiments.FoldTask

    class Former:
        """Trains the first fold and no other."""

        def run(self, tasks: Sequence[Any], console: Console) -> dict[int, str]:
            assert all(isinstance(task, fold_task) for task in tasks)
            train(**tasks[0].arguments, console=console)
            return {task.fold: "not trained" for task in tasks[1:]}

    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 2}).model_dump_json())
    with pytest.deprecated_call(match=r"Former\.run\(tasks\) returns problems by fold"):
        result = crossval(discs, tmp_path / "run", folds=2, plan=plan, device="cpu", executor=Former())
    assert (list(result.folds), dict(result.failed)) == ([0], {1: "not trained"})


def test_any_process_runs_a_task_that_is_sent_to_it(tasks: list[Task]) -> None:
    """As the job of a scheduler does: a line of JSON in, lines of JSON out, and an exit code."""
    ended = [
        subprocess.run(
            [sys.executable, "-m", "deconvseg.experiments.worker", "1"],
            input=task.to_json(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        for task in tasks[:2]
    ]
    assert [done.returncode for done in ended] == [0, 2]
    assert json.loads(ended[0].stdout.splitlines()[-1]) == {"value": ["b"]}
    assert "no such folder" in json.loads(ended[1].stdout.splitlines()[-1])["error"]


class Ended:
    """A process that ends when its end of the pipe is closed."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.stdout = os.fdopen(reader)
        self.stdin = open(os.devnull, "w")  # noqa: PTH123, SIM115 (its attendant closes it)

    def close(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1

    def poll(self) -> int:
        return 0

    def wait(self, timeout: float | None = None) -> int:
        return 1


def test_a_task_takes_the_gpu_that_the_fewest_others_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks but the first end at once, and leave their GPU to the next, whatever their keys."""
    taken: dict[str, str | None] = {}
    ends: dict[str, Ended] = {}

    class Started(Processes):
        def _start(self, task: Task, gpu: str | None):  # type: ignore[no-untyped-def]
            taken[task.key] = gpu
            ends[task.key] = Ended()
            for key in {"0": (), "6": ("6", "0")}.get(task.key, (task.key,)):
                ends[key].close()
            return ends[task.key]

    executor = Started(2, 2, ["GPU-a", "GPU-b"])
    assert len(list(executor.run([Task(key, "") for key in "0426"], SILENT))) == 4
    assert taken == {"0": "GPU-a", "4": "GPU-b", "2": "GPU-b", "6": "GPU-b"}
    assert [Processes(jobs, 8, ["0", "1"]).share(5).together for jobs in (1, 2, 3, 9)] == [1, 1, 2, 3]
    assert [Processes(jobs, 8).share(5) for jobs in (2, 16)] == [Share(4, 2), Share(1, 5)]


@pytest.mark.faults
def test_a_task_that_is_killed_while_it_writes_a_message_is_a_problem_of_that_task() -> None:
    program = 'import os; os.write(1, b\'{"say": "first"}\\n{"say": "sec\'); os.kill(os.getpid(), 9)'
    console = Listening()

    class Killed(Processes):
        def _start(self, task: Task, gpu: str | None) -> "subprocess.Popen[str]":
            pipe = subprocess.PIPE
            return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)

    outcomes = list(Killed(1, 1, []).run([Task("fold 3", ""), Task("fold 4", "")], console))
    assert console.said == ["fold 3: first", "fold 4: first"]
    assert all((outcome.problem or "").startswith("its process was ended by SIGKILL") for outcome in outcomes)


def test_folds_that_are_trained_at_once_share_the_memory(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, module = (
        importlib.import_module(f"deconvseg.{name}") for name in ("training.deciding", "experiments.folds")
    )
    asked = []

    def plan_of_these(data: object, parts: object, **options: object) -> Plan:
        asked.append(options["memory"])
        return tiny_plan()

    class Idle(Processes):
        def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
            yield from (Outcome(task, error=DeconvsegError("not trained")) for task in tasks)

    monkeypatch.setattr(planning, "make_plan", plan_of_these)
    monkeypatch.setattr(module, "plannable_memory", lambda device: 10**10)
    # Of eight jobs, two folds need two.
    for jobs, memory in ((2, 10**9), (8, 10**9), (2, None), (1, None)):
        output = tmp_path / f"{jobs}-{memory}"
        with pytest.raises(DeconvsegError, match="every fold failed"):
            crossval(discs, output, folds=2, device="cpu", memory=memory, executor=Idle(jobs, 8))
        assert Run(output).config["memory"] == memory
    assert asked == [10**9 // 2, 10**9 // 2, 10**10 // 2, None]
