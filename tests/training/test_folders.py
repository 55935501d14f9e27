"""Who may remove a cache, and when."""

from pathlib import Path

import pytest

from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.system import hold
from deconvseg.training import Silent, TrainOptions, remove_cache
from deconvseg.training.folders import cache_of, using_cache


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def run(tmp_path: Path, plan: Plan) -> Run:
    run = Run.create(tmp_path / "run", plan, {}, {"train": [], "val": [], "test": []})
    (run.cache / "entries" / "a").mkdir(parents=True)
    return run


def test_a_cache_that_another_run_uses_is_kept_and_that_is_said(run: Run, tmp_path: Path) -> None:
    options, console = TrainOptions("data"), Listening()
    with using_cache(tmp_path / "run" / "cache"):
        remove_cache(run, options, console)
    assert (run.cache / "entries" / "a").is_dir()
    assert len(console.lines) == 1
    assert "prepared cases are kept" in console.lines[0]
    remove_cache(run, options, console)
    assert not run.cache.exists()
    assert len(console.lines) == 1


def test_a_cache_that_was_given_stays_and_several_runs_use_it(run: Run) -> None:
    options = TrainOptions("data", cache=str(run.cache))
    with using_cache(cache_of(run, options)), using_cache(run.cache):
        remove_cache(run, options, Silent())
    assert [path.name for path in run.cache.iterdir()] == ["entries"]


def test_hashes_leave_locks_out(run: Run) -> None:
    with hold(run.path):
        run.record_hashes(finished=True)
    assert run.manifest["files"].keys() == {"plan.json", "config.json", "splits.json"}
