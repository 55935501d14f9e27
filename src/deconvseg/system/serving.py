"""Worker process of :func:`~deconvseg.system.workers.map_in_processes`: items on standard input, results on output."""

import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from deconvseg.errors import DeconvsegError
from deconvseg.system.foreign import naming
from deconvseg.system.processes import take_over_stdout


def main() -> None:
    """Process items until standard input ends; the first message also contains ``function`` and ``describe``."""
    messages = take_over_stdout()
    try:
        # Safe to unpickle: standard input comes from this package's own parent process.
        function, describe, item = pickle.load(sys.stdin.buffer)  # noqa: S301
        while True:
            _answer(messages.buffer, function, describe, item)
            item = pickle.load(sys.stdin.buffer)  # noqa: S301
    except EOFError:
        return


def _answer(answers: BinaryIO, function: Callable[[Any], Any], describe: Callable[[Any], str], item: Any) -> None:
    answer: tuple[Any, DeconvsegError | None, str]
    try:
        with naming(describe(item)):
            answer = (function(item), None, "")
    except DeconvsegError as error:
        answer = (None, error, traceback.format_exc())
    answers.write(pickle.dumps(answer))
    answers.flush()


if __name__ == "__main__":
    main()
