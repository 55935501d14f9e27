"""The process of one fold; its arguments are those of :func:`~deconvseg.training.train`, as JSON, and its threads."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from deconvseg.errors import DeconvsegError
from deconvseg.progress import Progress, show_nothing, tenths
from deconvseg.system import exit_on, keep_freed_memory, one_line, take_over_stdout
from deconvseg.training import train
from deconvseg.training.worker import Relay


class _FoldRelay(Relay):
    """Tells the parent process a line for each tenth of the way."""

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        yield show_nothing if total is not None else tenths(text, self.say)


def main(arguments: str, threads: str) -> int:
    """Train a fold; return the exit code."""
    # Sent by the parent: unfinished files are removed on the way out.
    exit_on(signal.SIGTERM)
    relay = _FoldRelay(take_over_stdout())
    torch.set_num_threads(int(threads))
    keep_freed_memory()
    try:
        train(**json.loads(arguments), console=relay)
    except DeconvsegError as error:
        relay.tell(error=one_line(error))
        return error.exit_code
    except BrokenPipeError:
        # The parent was killed.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
