"""The lines of a log: the time of day before each, and progress at sensible intervals."""

from __future__ import annotations

import re
import time
from datetime import datetime

from deconvseg.progress import Lines, Timed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def log(clock: Clock, **options: object) -> tuple[Lines, list[str]]:
    written: list[str] = []
    return Lines(written.append, clock=clock, time_of_day=lambda: datetime(2026, 1, 2, 3, 4, 5), **options), written  # type: ignore[arg-type]


def test_every_line_begins_with_the_time_of_day() -> None:
    console, written = log(Clock())
    console.say("plan: deconver")
    assert written == ["03:04:05 plan: deconver"]


def test_work_of_a_few_seconds_has_no_line_of_its_own() -> None:
    clock = Clock()
    console, written = log(clock)
    with console.track("reading", 100) as progress:
        for number in range(101):
            clock.now = number * 0.04
            progress(number, f"case {number}")
    assert written == []


def test_long_work_has_a_line_for_each_tenth_with_the_time_left() -> None:
    clock = Clock()
    console, written = log(clock)
    with console.track("training") as progress:
        for step in range(1001):
            clock.now = step * 0.1
            progress(step / 1000, f"epoch {step // 100 + 1} of 10")
    assert len(written) == 10
    assert written[0] == "03:04:05  10%  training: epoch 2 of 10; 0:10 elapsed, 1:30 left"
    assert written[-1] == "03:04:05 100%  training: epoch 11 of 10; 1:40 elapsed"


def test_slow_work_has_a_line_a_minute_and_fast_tenths_wait() -> None:
    clock = Clock()
    console, written = log(clock)
    with console.track("training") as progress:
        for second in range(10001):
            clock.now = float(second)
            progress(Timed(second / 10000, 10000 - second))
    # One a minute; the tenths lie among them.
    assert 160 < len(written) <= 177
    assert "2:45:40 left" in written[0]
    clock = Clock()
    console, written = log(clock)
    with console.track("predicting") as progress:
        for step in range(21):
            clock.now = step * 1.0
            progress(step / 20)
    assert len(written) == 4


def test_a_work_that_tells_nothing_is_told_of_too() -> None:
    written: list[str] = []
    console = Lines(written.append, latest=0.2)
    with console.track("timing training steps on this machine") as progress:
        progress(0.0, "network 1")
        deadline = time.monotonic() + 20
        while len(written) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d timing training steps on this machine: network 1; 0:00 elapsed, time left not known yet",
        written[0],
    )
    assert len(written) >= 2


def test_verbose_lines_come_at_every_step_that_is_not_too_soon() -> None:
    clock = Clock()
    console, written = log(clock, every=True)
    with console.track("reading", 10) as progress:
        for number in range(11):
            clock.now = number * 6.0
            progress(number, f"case_{number}")
    assert len(written) == 10
    assert written[0] == "03:04:05 reading: 1 of 10, case_1; 0:06 elapsed, 0:54 left"
