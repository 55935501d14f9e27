"""The time left: exact at a constant speed, unknown before anything is known."""

from __future__ import annotations

import math
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from deconvseg.progress import Timed, TimeLeft, Timings, clock_time
from deconvseg.progress.bars import Bars

seconds = st.floats(0.5, 1e4)


@settings(deadline=None)
@given(total=st.integers(2, 400), each=seconds, start=st.floats(0, 1e6), share=st.floats(0, 0.99))
def test_the_estimate_is_exact_at_a_constant_speed(total: int, each: float, start: float, share: float) -> None:
    left = TimeLeft(start)
    assert left.at(start) is None
    for number in range(1, total + 1):
        left.tell(number / total, start + number * each)
        # Also between two tells.
        between = share * each if number < total else 0.0
        found = left.at(start + number * each + between)
        if number * each >= 1.01 and number / total >= 0.002:
            assert found == pytest.approx((total - number) * each - between, rel=1e-6, abs=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), max_size=40))
def test_the_estimate_is_never_negative_and_never_endless(told: list[tuple[float, float]]) -> None:
    left, now = TimeLeft(0.0), 0.0
    for done, passed in told:
        now += passed
        left.tell(done, now)
        found = left.at(now)
        assert found is None or (0 <= found < math.inf)


def test_the_estimate_follows_a_speed_that_changes() -> None:
    left = TimeLeft(0.0)
    for second in range(100):
        left.tell(second / 1000, float(second))
    # Ten times as slow from now on.
    for second in range(300):
        left.tell(0.099 + second / 10000, 99.0 + second)
    found = left.at(398.0)
    assert found == pytest.approx((1 - 0.099 - 0.0299) * 10000, rel=0.01)


def test_the_estimate_stands_still_while_nothing_is_told() -> None:
    left = TimeLeft(0.0)
    for number in (1, 2, 3):
        left.tell(number / 10, 10.0 * number)
    assert left.at(30.0) == pytest.approx(70.0)
    assert left.at(40.0) == left.at(1000.0) == pytest.approx(60.0)


def test_what_the_work_itself_knows_is_counted_down() -> None:
    left = TimeLeft(0.0)
    left.tell(0.5, 10.0, Timed(5, left=30.0))
    assert [left.at(10.0), left.at(25.0), left.at(60.0)] == [30.0, 15.0, 0.0]
    left.tell(0.6, 70.0, Timed(6, left=None))
    assert left.at(70.0) is None


def test_work_that_begins_again_is_estimated_anew() -> None:
    left = TimeLeft(0.0)
    left.tell(0.9, 10.0)
    left.tell(0.1, 20.0)
    assert left.at(20.0) is None
    left.tell(0.2, 40.0)
    assert left.at(40.0) == pytest.approx(160.0)


@pytest.mark.parametrize(
    "given, shown", [(None, "–:––"), (0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_a_time_is_written_as_a_clock_does(given: float | None, shown: str) -> None:
    assert clock_time(given) == shown


def test_the_parts_add_up_and_the_one_that_fails_is_known() -> None:
    now = [0.0]
    timings = Timings(lambda: now[0])
    for name, taken in (("planning", 70.0), ("training", 900.0), ("planning", 2.0), ("report", 0.2)):
        with timings.part(name):
            assert timings.at_work == name
            now[0] += taken
    assert (timings.seconds, timings.at_work) == (
        {"planning": 72.0, "training": 900.0, "report": pytest.approx(0.2)},
        None,
    )
    assert str(timings) == "16 min: planning 72 s, training 15 min"
    with pytest.raises(KeyboardInterrupt), timings.part("report"):
        raise KeyboardInterrupt
    assert timings.at_work == "report"


def test_a_finished_bar_has_no_time_left_and_an_unfinished_one_is_not_at_100_percent() -> None:
    console = RichConsole(file=StringIO(), force_terminal=True, width=80)
    bars = Bars(console, clock=lambda: 0.0)
    with bars.track("training") as progress:
        progress(Timed(0.998, left=6.0))
        assert "99%  0:00 elapsed  0:06 left" in bars.frame().plain
        progress(Timed(1.0, left=6.0))
        assert "100%  0:00 elapsed" in bars.frame().plain
        assert "left" not in bars.frame().plain
