"""What a process tells the one that started it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from deconvseg.progress import Progress, show_nothing


class Relay:
    """A console that tells the parent process, by JSON lines in ``messages``."""

    def __init__(self, messages: TextIO) -> None:
        self.messages = messages

    def tell(self, **message: Any) -> None:
        """Write one message."""
        self.messages.write(json.dumps(message) + "\n")
        self.messages.flush()

    def say(self, text: str) -> None:
        """Hand a line on."""
        self.tell(say=text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Give a function that hands a fraction on; how many items are done, the parent has shown already."""
        yield (lambda done, what=None, /: self.tell(done=done, text=what or text)) if total is None else show_nothing
