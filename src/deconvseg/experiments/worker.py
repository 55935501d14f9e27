"""The process of one task, which it reads from standard input; its argument is the number of threads.

It writes lines of JSON to standard output: messages, and at the end a value or an error.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from deconvseg.errors import DeconvsegError
from deconvseg.experiments.tasks import Task
from deconvseg.progress import Lines, Progress
from deconvseg.system import Relay, exit_on, keep_freed_memory, take_over_stdout


class _TaskRelay(Relay):
    """Sends the parent process the lines of progress that a log has."""

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        with Lines(self.say, stamped=False).track(text, total) as progress:
            yield progress


class _Warnings(logging.Handler):
    """Sends the parent process the log messages of the package."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay

    def emit(self, record: logging.LogRecord) -> None:
        self.relay.say(f"warning: {self.format(record)}")


def main(threads: str) -> int:
    """Run the task; return the exit code."""
    # Sent by the parent; unfinished files are removed before the process ends.
    exit_on(signal.SIGTERM)
    relay = _TaskRelay(take_over_stdout())
    logging.getLogger("deconvseg").addHandler(_Warnings(relay))
    # The parent adds the key.
    task = replace(Task.from_json(sys.stdin.read()), key="")
    torch.set_num_threads(int(threads))
    keep_freed_memory()
    try:
        outcome = task.run(relay)
        if outcome.error is None:
            relay.tell(value=outcome.value)
            return 0
        if not isinstance(outcome.error, DeconvsegError):
            traceback.print_exception(outcome.error)
        code = getattr(outcome.error, "exit_code", 1)
        relay.tell(error=outcome.problem, code=code)
        return int(code)
    except BrokenPipeError:
        # The parent was killed.
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
