"""One shape of progress, and those of before, which still work."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consoles import Listening
from deconvseg import predict, train
from deconvseg.errors import InputError
from deconvseg.experiments import predict_many
from deconvseg.options import PredictOptions
from deconvseg.progress import SILENT, Console, Quiet, choose_console, each, takes_console, tenths


@takes_console
def add(items: Sequence[int], *, console: Console = SILENT) -> int:
    """Go through items."""
    console.say("begins")
    return sum(each(items, "adding", console))


@takes_console
def check(*, console: Console = SILENT) -> None:
    """Tell fractions."""
    with console.track("checking") as progress:
        progress(0.5, "half")
        progress(1.0)


def test_items_are_counted_when_they_are_done_and_a_fraction_has_no_total() -> None:
    console = Listening()
    seen = []
    for item in each("ab", "reading", console):
        seen.append((item, len(console.told)))
    assert seen == [("a", 0), ("b", 1)]
    assert console.told == [("reading", 1, 2), ("reading", 2, 2)]
    console = Listening()
    assert add([1, 2], console=console) == 3
    check(console=console)
    assert console.told == [("adding", 1, 2), ("adding", 2, 2), ("half", 0.5, None), ("checking", 1.0, None)]
    assert console.said == ["begins"]


def test_a_quiet_console_shows_how_far_the_work_is_and_no_line() -> None:
    console = Listening()
    assert add([1], console=Quiet(console)) == 1
    assert (console.told, console.said) == ([("adding", 1, 1)], [])


def test_the_former_lines_for_each_tenth_still_work() -> None:
    said: list[str] = []
    with pytest.deprecated_call(match="tenths"):
        progress = tenths("training", said.append)
    for step in range(101):
        progress(step / 100, None if step < 50 else f"step {step}")
    assert said[0] == "  0%  training"
    assert said[5] == " 50%  step 50"
    assert len(said) == 11


def test_functions_that_wrap_items_or_take_a_text_and_a_fraction_still_work() -> None:
    seen: list[Any] = []
    said: list[str] = []
    with pytest.deprecated_call(match=r"add\(progress=, say=\) is going to be removed: give a console"):
        assert add([1, 2], progress=lambda items: (seen.append(item) or item for item in items), say=said.append) == 3
    assert (seen, said) == ([1, 2], ["begins"])
    with pytest.deprecated_call(match="progress="):
        check(progress=lambda text, fraction: seen.append((text, fraction)))
    assert seen[2:] == [("half", 0.5), ("checking", 1.0)]


def test_a_console_of_the_last_version_still_works() -> None:
    seen: list[Any] = []

    class Former:
        def say(self, text: str) -> None:
            seen.append(text)

        def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
            seen.append(text)
            return items

        @contextmanager
        def meter(self) -> Iterator[Callable[[str, float], None]]:
            yield lambda text, fraction: seen.append((text, fraction))
            seen.append("closed")

    for call in (lambda: add([1, 2], console=Former()), lambda: check(console=Former())):  # type: ignore[arg-type]
        with pytest.deprecated_call(match=r"Former\.meter\(\)"):
            call()
    assert seen == ["begins", "adding", ("half", 0.5), ("checking", 1.0), "closed"]


def test_what_was_before_the_console_is_warned_of_once(trained: Path, discs: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        predict(discs / "images" / "disc0.png", trained, tmp_path, say=print)  # type: ignore[call-overload]
    told = [str(warning.message) for warning in caught if "console" in str(warning.message)]
    assert len(told) == 1
    assert told[0].startswith("predict(say=) is going to be removed: give a console")


@pytest.mark.parametrize("nothing", [None, False])
def test_true_is_the_screen_and_none_and_false_show_nothing(nothing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_console(nothing) is SILENT
    check(console=nothing)
    assert capsys.readouterr() == ("", "")
    assert add([1, 2], console=True) == 3  # type: ignore[arg-type]
    assert capsys.readouterr().err.endswith(" begins\n")


@pytest.mark.parametrize("wrong", [print, 1, "yes", Listening])
def test_what_is_no_console_is_refused_with_what_to_give(wrong: Any) -> None:
    for call in (check, train_with, predict_with, partial(PredictOptions)):
        with pytest.raises(InputError, match=r"console=.*: give True for the screen, .*Lines\(print\)"):
            call(console=wrong)


def train_with(*, console: Any) -> None:
    """Train, with a console, on what does not exist."""
    train("NOTHING", "RUN", console=console)


def predict_with(*, console: Any) -> None:
    """Predict, with a console, by what does not exist."""
    predict_many("NOTHING", "RUN", "MASKS", console=console)
