"""Many cases, spread over an executor: the masks of one process, whoever makes them and whatever dies meanwhile."""

import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import pytest

from consoles import Listening
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.experiments import Executor, Outcome, Processes, Serial, Task, crossval, predict_many
from deconvseg.inference import Prediction, predict
from deconvseg.progress import SILENT, Console
from plans import tiny_plan

OPTIONS = {"device": "cpu"}


class Threads(Executor):
    """An executor of somebody else's: threads."""

    slots = 2

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        with ThreadPoolExecutor(self.slots) as pool:
            futures = [pool.submit(task.run, console) for task in tasks]
            for future in as_completed(futures):
                yield future.result()


class Mortal(Serial):
    """An executor whose process is killed when it comes to one of these cases, or only beside ``others``."""

    slots = 2

    def __init__(self, *deadly: str, others: bool = False) -> None:
        self.deadly = deadly
        self.others = others
        self.asked: list[list[str]] = []

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        for task in tasks:
            names = task.arguments["cases"]
            self.asked.append(names)
            place = next((place for place, name in enumerate(names) if name in self.deadly), None)
            if place is None or (self.others and len(names) == 1):
                yield task.run(console)
                continue
            if place:
                # What it has written before it dies.
                replace(task, arguments={**task.arguments, "cases": names[:place]}).run(SILENT)
            yield Outcome(task, error=DeconvsegError("its process was ended by SIGKILL"))


@pytest.fixture(scope="module")
def expected(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The masks of one process."""
    output = tmp_path_factory.mktemp("masks")
    assert not predict(discs / "images", trained, output, **OPTIONS).problems
    return masks_in(output)


def masks_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("executor", [None, Serial(), Threads()], ids=["given none", "serial", "threads"])
def test_the_masks_and_what_is_told_are_those_of_one_process(
    executor: Executor | None, trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    plain, console = Listening(), Listening()
    wanted = predict(discs / "images", trained, tmp_path / "plain", **OPTIONS, console=plain)
    found = predict_many(discs / "images", trained, tmp_path / "many", **OPTIONS, executor=executor, console=console)
    assert masks_in(tmp_path / "many") == expected
    assert [path.name for path in found.written] == [path.name for path in wanted.written]
    assert (found.problems, found.warnings, found.models) == (wanted.problems, wanted.warnings, wanted.models)
    if not isinstance(executor, Threads):
        assert (console.said, console.told) == (plain.said, plain.told)


def test_another_executor_runs_a_cross_validation(discs: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan().model_dump_json())
    console = Listening()
    result = crossval(discs, tmp_path / "run", folds=2, plan=plan, device="cpu", executor=Threads(), console=console)
    assert result.problems == ()
    assert [len(names) for names in result.folds.values()] == [3, 3]
    assert {line.partition(":")[0] for line in console.said} >= {"fold 0", "fold 1"}


@pytest.mark.faults
def test_a_dead_process_loses_no_mask_and_its_case_alone_is_a_problem(
    trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    earlier = tmp_path / "disc4.png"
    earlier.write_bytes(expected["disc5.png"])
    executor, console = Mortal("disc4"), Listening()
    found = predict_many(discs / "images", trained, tmp_path, **OPTIONS, executor=executor, console=console)
    (problem,) = found.problems
    assert problem == "disc4: its process was ended by SIGKILL; its earlier mask is now disc4.png.old"
    assert masks_in(tmp_path) == {name: mask for name, mask in expected.items() if name != "disc4.png"}
    assert [path.stem for path in found.written] == [f"disc{number}" for number in (0, 1, 2, 3, 5, 6, 7)]
    # The case that was at work and the next one are tried alone; what was written is not predicted again.
    assert executor.asked == [
        ["disc0", "disc2", "disc4", "disc6"],
        ["disc1", "disc3", "disc5", "disc7"],
        ["disc4"],
        ["disc6"],
    ]
    assert "part 1 of 2: failed: its process was ended by SIGKILL; 2 of 4 cases are left" in console.said


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_that_is_killed_at_work_loses_no_mask(
    trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    killed = []
    images = tmp_path / "images"
    images.mkdir()
    for name in ("disc0.png", "disc1.png", "disc2.png", "disc3.png"):
        (images / name).write_bytes((discs / "images" / name).read_bytes())
    masks = tmp_path / "masks"

    class Unlucky(Processes):
        """The first process is killed as soon as one of its masks is there."""

        def _start(self, task: Task, gpu: str | None) -> "subprocess.Popen[str]":
            process = super()._start(task, gpu)
            if not killed:
                killed.append(process)
                files = [masks / f"{name}.png" for name in task.arguments["cases"]]
                threading.Thread(target=self._kill, args=(process, files), daemon=True).start()
            return process

        def _kill(self, process: "subprocess.Popen[str]", files: list[Path]) -> None:
            while process.poll() is None and not any(file.exists() for file in files):
                time.sleep(0.001)
            process.kill()

    found = predict_many(images, trained, masks, **OPTIONS, executor=Unlucky(2, 2))
    assert found.problems == []
    assert masks_in(masks) == {name: expected[name] for name in masks_in(images)}
    assert [path.name for path in found.written] == sorted(masks_in(images))


def test_what_several_at_once_could_not_do_is_done_alone(
    trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    executor = Mortal("disc0", "disc3", others=True)
    found = predict_many(discs / "images", trained, tmp_path, **OPTIONS, executor=executor)
    assert found.problems == []
    assert masks_in(tmp_path) == expected
    assert executor.asked[2:] == [["disc4", "disc6"], ["disc7"], ["disc0"], ["disc2"], ["disc3"], ["disc5"]]


def test_a_bad_file_is_a_problem_and_what_no_part_can_do_is_raised(trained: Path, discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("disc6.png", "disc7.png"):
        (folder / name).write_bytes((discs / "images" / name).read_bytes())
    (folder / "bad.png").write_bytes(b"?")
    found = predict_many(folder, trained, tmp_path / "out", **OPTIONS, executor=Threads())
    assert len(found.problems) == 1
    assert "bad.png" in found.problems[0]
    assert [path.name for path in found.written] == ["disc6.png", "disc7.png"]
    with pytest.raises(InputError, match=r"bad\.png"):
        predict_many(folder / "bad.png", trained, tmp_path / "out", **OPTIONS, executor=Threads())
    with pytest.raises(InputError, match="overlap"):
        predict_many(folder, trained, tmp_path / "out", **OPTIONS, overlap=2.0, executor=Threads())
    with pytest.raises(InputError, match="has no cases disc9"):
        predict(folder, trained, tmp_path / "out", **OPTIONS, cases=["disc9"])


def test_masks_that_are_there_are_left_by_every_part(
    trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    predict(discs / "images", trained, tmp_path, **OPTIONS, cases=["disc1", "disc4"])
    found = predict_many(discs / "images", trained, tmp_path, **OPTIONS, skip_existing=True, executor=Threads())
    assert [path.stem for path in found.skipped] == ["disc1", "disc4"]
    assert len(found.written) == 6
    assert masks_in(tmp_path) == expected


def test_a_prediction_is_the_same_after_json() -> None:
    made = Prediction(
        [Path("a.png")], [Path("b.png")], ["c"], ["d"], {"a": ["e", "f"]}, [Path("a.png")], [{"run": "r"}]
    )
    again = Prediction.from_json(made.to_json())
    assert again == made
    again.add(made)
    assert (again.warnings, again.problems, len(again.written)) == (["d"], ["c"], 2)


class Careless(Serial):
    """An executor that loses the outcome of some tasks, or gives outcomes twice and in another order."""

    slots = 2

    def __init__(self, *, loses: bool) -> None:
        self.loses = loses

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        for task in reversed(tasks):
            outcome = task.run(console)
            yield from () if self.loses else (outcome, outcome)


def test_outcomes_that_are_lost_are_problems_and_those_given_twice_count_once(
    trained: Path, discs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    twice = predict_many(discs / "images", trained, tmp_path / "a", **OPTIONS, executor=Careless(loses=False))
    assert [path.name for path in twice.written] == sorted(expected)
    assert len(twice.models) == 1
    # What was written counts, whatever is told of it.
    lost = predict_many(discs / "images", trained, tmp_path / "b", **OPTIONS, executor=Careless(loses=True))
    assert [path.name for path in lost.written] == sorted(expected)
    with pytest.raises(DeconvsegError, match="Careless gave no outcome"):
        predict_many(discs / "images" / "disc0.png", trained, tmp_path, **OPTIONS, executor=Careless(loses=True))


def test_the_only_case_is_told_of_without_a_key(trained: Path, discs: Path, tmp_path: Path) -> None:
    console = Listening()
    one = {**OPTIONS, "precision": "32", "executor": Processes(2, 2), "console": console}
    predict_many(discs / "images" / "disc0.png", trained, tmp_path, **one)
    weights, computing, case, *_ = console.said
    assert weights == f"weights: {trained}, fold 0, {weights.partition('fold 0, ')[2]}"
    assert "the last of 4 epochs (validation Dice 0." in weights
    assert computing.startswith("computing: float32 on cpu; kernels: ")
    assert case.startswith("disc0: ")
