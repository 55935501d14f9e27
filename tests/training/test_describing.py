"""Pictures and pages never decide whether a run is finished."""

import shutil
from pathlib import Path

import pytest

from deconvseg.runs import Run
from deconvseg.training import Silent, describe_run


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("error", [ValueError("no formula\nhere"), RuntimeError(""), OSError(28, "full")])
def test_what_cannot_be_drawn_is_told_in_a_line(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from matplotlib.figure import Figure

    def fail(*_: object, **__: object) -> None:
        raise error

    copy, told = Run(shutil.copytree(trained, tmp_path / "run")), Listening()
    monkeypatch.setattr(Figure, "savefig", fail)
    describe_run(copy, told)
    assert [line.split(" could")[0] for line in told.lines] == ["warning: progress.png", "warning: report.html"]
    assert all("the run is finished without it: try 'deconvseg report" in line for line in told.lines)
    assert not any("\n" in line for line in told.lines)


def test_a_page_that_can_be_made_is_named(trained: Path, tmp_path: Path) -> None:
    copy, told = Run(shutil.copytree(trained, tmp_path / "run")), Listening()
    describe_run(copy, told)
    assert told.lines == [f"report: {copy.path / 'report.html'}"]
