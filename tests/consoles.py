"""Consoles that remember what they were shown."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from deconvseg.progress import Progress, Silent


class Listening(Silent):
    """Keeps lines in ``said``, and in ``told`` what was at work, how much of it was done, and of how many.

    What is at work also goes into ``steps``, among what a test notes there itself.
    """

    def __init__(self, steps: list[str] | None = None) -> None:
        self.said: list[str] = []
        self.told: list[tuple[str, float, int | None]] = []
        self.steps = [] if steps is None else steps

    def say(self, text: str) -> None:
        self.said.append(text)

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        def tell(done: float, what: str | None = None, /) -> None:
            self.told.append((what or text, done, total))
            self.steps.append(what or text)

        return nullcontext(tell)
