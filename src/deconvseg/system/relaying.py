"""Messages from a child process to its parent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from deconvseg.progress import Progress, Timed, show_nothing


class Relay:
    """A console that sends lines and progress to the parent process, as JSON lines in ``messages``."""

    def __init__(self, messages: TextIO) -> None:
        self.messages = messages

    def tell(self, **message: Any) -> None:
        """Write one message."""
        self.messages.write(json.dumps(message) + "\n")
        self.messages.flush()

    def say(self, text: str) -> None:
        """Send a line."""
        self.tell(say=text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Yield a function that sends a fraction; counts of items are not sent, because the parent shows them."""

        def send(done: float, what: str | None = None, /) -> None:
            timed = {"left": done.left} if isinstance(done, Timed) else {}
            self.tell(done=float(done), text=what, **timed)

        yield send if total is None else show_nothing
