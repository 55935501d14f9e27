"""The time left of all folds follows from that of the one that is trained."""

from __future__ import annotations

from consoles import Listening
from deconvseg.experiments.folds import _Overall
from deconvseg.progress import Timed


def test_folds_that_have_not_begun_take_as_long_as_the_present_one() -> None:
    now = [0.0]
    shown, told = Listening(), []
    overall = _Overall(shown, lambda done, what=None, /: told.append(done), tasks=5, clock=lambda: now[0])
    with overall.track("fold 0: training") as progress:
        now[0] = 30.0
        progress(0.25, "epoch 1 of 4")
        progress(Timed(0.25, left=90.0), "epoch 1 of 4")
    assert [text for text, _, _ in shown.told] == ["epoch 1 of 4"] * 2
    (first,) = told
    assert isinstance(first, Timed)
    assert (first, first.left) == (0, 90 + 4 * 120)
    now[0] = 120.0
    overall.count()
    assert told[1] == 1
    with overall.track("fold 1: training") as progress:
        now[0] = 160.0
        progress(Timed(0.5, left=60.0))
    assert (told[2], told[2].left) == (1, 60 + 3 * 100)
