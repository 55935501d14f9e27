"""Who trains the folds: on which device, and with how much of the memory."""

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.experiments import FoldTask, Processes, crossval
from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.training import Console, Silent
from plans import tiny_plan


def test_what_torchrun_or_slurm_started_several_times_is_refused(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NTASKS": "4", "NTASKS_PER_NODE": "4", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(InputError, match="tells of 4: start it once"):
        crossval(discs, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


class Ended:
    """A process of a fold that ends when its end of the pipe is closed."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.stdout = os.fdopen(reader)

    def close(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1

    def poll(self) -> int:
        return 0

    def wait(self, timeout: float | None = None) -> int:
        return 0


def test_a_fold_takes_the_gpu_that_the_fewest_others_are_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """All folds but the first end at once, and leave their GPU to the next, whatever their numbers."""
    taken: dict[int, str | None] = {}
    ends: dict[int, Ended] = {}

    class Started(Processes):
        def _start(self, task: FoldTask, gpu: str | None):  # type: ignore[no-untyped-def]
            taken[task.fold] = gpu
            ends[task.fold] = Ended()
            for fold in {0: (), 6: (6, 0)}.get(task.fold, (task.fold,)):
                ends[fold].close()
            return ends[task.fold]

    executor = Started(2, 2, ["GPU-a", "GPU-b"])
    assert executor.run([FoldTask(fold, {}) for fold in (0, 4, 2, 6)], Silent()) == {}
    assert taken == {0: "GPU-a", 4: "GPU-b", 2: "GPU-b", 6: "GPU-b"}
    assert [Processes(jobs, 8, ["0", "1"]).count_on_device(5) for jobs in (1, 2, 3, 9)] == [1, 1, 2, 3]


def test_a_fold_that_is_killed_while_it_writes_a_message_is_a_problem_of_that_fold() -> None:
    program = 'import os; os.write(1, b\'{"say": "first"}\\n{"say": "sec\'); os.kill(os.getpid(), 9)'
    said = []

    class Killed(Processes):
        def _start(self, task: FoldTask, gpu: str | None) -> "subprocess.Popen[str]":
            return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    problems = Killed(1, 1, []).run([FoldTask(3, {}), FoldTask(4, {})], Listening())
    assert said == ["fold 3: first", "fold 4: first"]
    assert [text.partition(";")[0] for text in problems.values()] == ["its process was ended by SIGKILL"] * 2


def test_folds_that_are_trained_at_once_share_the_memory(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The packages' names of these modules are those of their functions.
    planning, module = (
        importlib.import_module(f"deconvseg.{name}") for name in ("training.deciding", "experiments.crossval")
    )
    asked = []

    def plan_of_these(data: object, parts: object, **options: object) -> Plan:
        asked.append(options["memory"])
        return tiny_plan()

    class Idle(Processes):
        def run(self, tasks: Sequence[FoldTask], console: Console) -> dict[int, str]:
            return {task.fold: "not trained" for task in tasks}

    monkeypatch.setattr(planning, "make_plan", plan_of_these)
    monkeypatch.setattr(module, "plannable_memory", lambda device: 10**10)
    # Of eight jobs, two folds need two.
    for jobs, memory in ((2, 10**9), (8, 10**9), (2, None), (1, None)):
        output = tmp_path / f"{jobs}-{memory}"
        with pytest.raises(DeconvsegError, match="every fold failed"):
            crossval(discs, output, folds=2, device="cpu", memory=memory, executor=Idle(jobs, 8))
        assert Run(output).config["memory"] == memory
    assert asked == [10**9 // 2, 10**9 // 2, 10**10 // 2, None]
