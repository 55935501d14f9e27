"""What a training tells while it works."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Console(Protocol):
    """Where it is told; the command line fills it in with Rich."""

    def say(self, text: str) -> None:
        """Tell that something was done or decided."""

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through items, showing how far it is."""

    def meter(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """Give a function that shows a text and a fraction."""


class Silent:
    """A console that tells nothing."""

    def say(self, text: str) -> None:
        """Tell nothing."""

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through the items."""
        return items

    def meter(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """Give a function that shows nothing."""
        return nullcontext(lambda text, fraction: None)
