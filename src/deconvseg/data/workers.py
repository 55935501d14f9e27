"""Work spread over processes, whose errors and deaths reach the caller as one line that names the item."""

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeVar

from deconvseg.errors import DeconvsegError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# What usually lies behind a process that ends without a word, by the signal that ended it.
_HINTS = {
    "SIGKILL": "the system does so when memory runs out: take fewer --workers, or 0",
    "SIGBUS": "shared memory (/dev/shm) or the disk may be full: take fewer --workers, or 0",
}


class WorkerTraceback(Exception):  # noqa: N818 (it is the cause of an error, never raised by itself)
    """The traceback of an error in another process, as text: the cause of the error that is raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Let every error of the block name what it was about, in one line: a :class:`DeconvsegError` stays as it is."""
    try:
        yield
    except DeconvsegError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise DeconvsegError(f"{what}: {type(error).__name__}: {first}") from error


def ended(exit_code: int | None) -> str:
    """Say how a process ended, by its exit code (negative: a signal), and what usually lies behind that."""
    if exit_code is None:
        return "ended without a word; take --workers 0 to see more"
    if exit_code >= 0:
        return (
            f"ended with exit code {exit_code}; what it printed says why (a script that starts processes needs "
            "its calls under: if __name__ == '__main__'), or take --workers 0"
        )
    number = signal.Signals(-exit_code)
    return f"was ended by {number.name}; {_HINTS.get(number.name, 'take --workers 0 to see more')}"


def map_in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int,
    describe: Callable[[_Item], str],
) -> Iterator[_Result]:
    """Yield ``function(item)`` in the order of the items, computed by that many processes; with 0, by this one.

    ``function`` and the items are pickled, because the processes are started anew and not forked from this one, whose
    threads and locks they would inherit. The first
    :class:`DeconvsegError` of any of them is raised here at once, with the process's traceback as its cause; a process
    that dies is a :class:`DeconvsegError` that names its item by ``describe`` and the signal.
    """
    if workers == 0 or len(items) < 2:
        for item in items:
            with naming(describe(item)):
                result = function(item)
            yield result
        return
    context = _context()
    waiting, served = deque(range(len(items))), 0
    done: dict[int, _Result] = {}
    team: dict[Connection[Any, Any], tuple[BaseProcess, int]] = {}
    try:
        for _ in range(min(workers, len(items))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, function, describe), daemon=True)
            process.start()
            theirs.close()
            team[ours] = (process, _hand_out(ours, waiting, items))
        while served < len(items):
            if served in done:
                yield done.pop(served)
                served += 1
                continue
            answered = wait([connection for connection, (_, index) in team.items() if index >= 0])
            for connection in [connection for connection in team if connection in answered]:
                worker, index = team[connection]
                done[index] = _receive(connection, worker, describe(items[index]))
                team[connection] = (worker, _hand_out(connection, waiting, items))
    finally:
        for connection, (worker, _) in team.items():
            connection.close()
            worker.terminate()
            worker.join()


def _context() -> "ForkServerContext | SpawnContext":
    """Return the way to start processes that knows nothing of this one's threads: from one that has only imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deconvseg.data"])
    return context


def _hand_out(connection: "Connection[Any, Any]", waiting: "deque[int]", items: Sequence[Any]) -> int:
    """Send the next item and return its index; -1 when there is none."""
    if not waiting:
        return -1
    index = waiting.popleft()
    # Where the process is dead, waiting for its answer tells how it ended.
    with suppress(BrokenPipeError):
        connection.send(items[index])
    return index


def _receive(connection: "Connection[Any, Any]", process: BaseProcess, what: str) -> Any:
    try:
        result, error, text = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise DeconvsegError(f"{what}: the process that worked on it {ended(process.exitcode)}") from None
    if error is not None:
        raise error from WorkerTraceback(text)
    return result


def _serve(connection: "Connection[Any, Any]", function: Callable[[Any], Any], describe: Callable[[Any], str]) -> None:
    """Answer items until the connection is closed; Ctrl-C is the caller's, who ends this process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        answer: tuple[Any, DeconvsegError | None, str]
        try:
            with naming(describe(item)):
                answer = (function(item), None, "")
        except DeconvsegError as error:
            answer = (None, error, traceback.format_exc())
        connection.send(answer)
