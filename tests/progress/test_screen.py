"""What is seen on a terminal, in a notebook and in a log, at every width."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from deconvseg.progress import Timed, screen, wrap
from deconvseg.progress.bars import Bars
from deconvseg.progress.notebook import Notebook
from deconvseg.progress.screen import Shown, choose_display, in_notebook

WIDTHS = (60, 80, 100, 200)
words = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=("C", "Z")), min_size=1, max_size=90
)


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=30), st.integers(20, 200))
def test_no_word_is_broken_and_no_line_is_too_long(text: list[str], width: int) -> None:
    lines = wrap(" ".join(text), width)
    assert " ".join(lines).split() == text
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)


def test_characters_of_two_columns_count_twice() -> None:
    assert wrap("症例 症例 症例", 10, "") == ["症例 症例", "症例"]


def terminal(width: int) -> tuple[Bars, io.StringIO, list[float]]:
    stream, now = io.StringIO(), [0.0]
    console = Console(file=stream, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    return Bars(console, clock=lambda: now[0]), stream, now


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_and_lines_fit_and_keep_every_word(width: int) -> None:
    bars, stream, now = terminal(width)
    line = "report: /data/department/projects/segmentation/runs/2026-01-02/report.html has 12,345 words in all of it"
    at_work = "epoch 3 of 17, step 12 of 40, 2.31 steps/s, loss 0.412, best Dice 0.812 (epoch 2, 4 of 30 cases)"
    with bars.track("cross-validation: folds", 5) as folds, bars.track("fold 1: training") as progress:
        folds(1)
        now[0] = 83.0
        progress(Timed(0.34, 160.0), at_work)
        bars.say(line)
        frame = bars.frame().plain.split("\n")
    assert all(len(row) < width for row in frame)
    shown = " ".join(frame)
    assert "34%  1:23 elapsed  2:40 left" in shown
    assert "1 of 5  1:23 elapsed" in shown
    last = max(number for number, row in enumerate(frame) if "elapsed" in row)
    assert " ".join(frame[last + 1 :]).split() == at_work.split()
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert set(line.split()) <= set(printed.split())


def test_a_bar_whose_end_is_not_known_has_no_percentage_and_no_wild_time() -> None:
    bars, _, now = terminal(80)
    with bars.track("timing training steps on this machine") as progress:
        now[0] = 61.0
        progress(0.0, "network 2: deconver")
        assert bars.frame().plain == (
            "timing training steps on this machine  1:01 elapsed  –:–– left\n  network 2: deconver"
        )
    narrow, _, _ = terminal(60)
    with narrow.track("timing training steps on this machine"):
        assert narrow.frame().plain == "timing training steps on this machine\n0:00 elapsed  –:–– left"


def test_the_bar_vanishes_at_an_interruption() -> None:
    bars, stream, _ = terminal(80)

    def work() -> None:
        with bars.track("planning"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    # The cursor is shown again, and the line is erased.
    assert "\x1b[?25h" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[2K")
    assert bars.frame().plain == ""


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb"), None])
def test_where_nothing_moves_lines_have_times_and_no_control_characters(
    variable: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if variable:
        monkeypatch.setenv(*variable)
    console = choose_display("usual")
    assert not isinstance(console, Bars)
    console.say("warning: [red]x[/red] \N{RIGHTWARDS ARROW} y")
    with console.track("reading", 3) as progress:
        progress(1)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err[8:] == " warning: [red]x[/red] \N{RIGHTWARDS ARROW} y\n"
    assert told.err[:8].replace(":", "").isdigit()


def test_quiet_shows_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console = screen("quiet")
    console.say("plan: deconver")
    console.say("warning: the scans differ")
    with console.track("training") as progress:
        progress(0.5)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_notebook_has_one_line_that_changes() -> None:
    stream, now = io.StringIO(), [0.0]
    console = Shown(Notebook(stream, clock=lambda: now[0]), str)
    console.say("planning")
    with console.track("training") as progress:
        for second in range(1, 5):
            now[0] = float(second)
            progress(second / 10, f"epoch {second}")
        console.say("a line meanwhile")
    lines = stream.getvalue().split("\n")
    assert lines[0] == "planning"
    states = [state.rstrip() for state in lines[1].split("\r") if state.strip()]
    assert states[-2:] == [" 40%  0:04 elapsed  0:06 left  training: epoch 4", "a line meanwhile"]
    assert lines[-1].strip("\r ") == ""


def test_a_notebook_is_told_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    del shell.kernel
    assert not in_notebook()
