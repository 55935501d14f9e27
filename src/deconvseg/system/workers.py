"""A map over worker processes; their errors and crashes are raised as one-line errors that name the item."""

import pickle
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

from deconvseg.errors import DeconvsegError
from deconvseg.system.endings import ended
from deconvseg.system.foreign import naming
from deconvseg.system.processes import start_process

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Processes start only for more work than this (seconds): each imports the package first.
_WORTH_PROCESSES = 5.0


class WorkerTraceback(Exception):  # noqa: N818 (only the cause of an error, never raised itself)
    """The traceback of an error in another process, as text; it is the ``__cause__`` of the error raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def map_in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int,
    describe: Callable[[_Item], str],
) -> Iterator[_Result]:
    """Yield ``function(item)`` in the order of ``items``, computed by ``workers`` processes, or by this one if 0.

    ``function`` and the items are pickled: the processes are spawned, because forked ones would inherit threads and
    locks. The first error in a worker is raised here at once as a :class:`DeconvsegError`, with the worker's traceback
    as its cause. The crash of a worker raises a :class:`DeconvsegError` with the item's description (``describe``) and
    the signal.
    """
    if workers == 0 or len(items) < 2:
        for item in items:
            with naming(describe(item)):
                result = function(item)
            yield result
        return
    team = [_Worker(function, describe) for _ in range(min(workers, len(items)))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in team:
        idle.put(worker)

    def work(item: _Item) -> _Result:
        worker = idle.get()
        try:
            answer: _Result = worker.ask(item)
        finally:
            idle.put(worker)
        return answer

    threads = ThreadPoolExecutor(len(team))
    try:
        futures = [threads.submit(work, item) for item in items]
        served = 0
        for finished in as_completed(futures):
            finished.result()  # raises an error before earlier results that are not ready
            while served < len(futures) and futures[served].done():
                yield futures[served].result()
                served += 1
    finally:
        for worker in team:
            worker.end()
        threads.shutdown(cancel_futures=True)


def map_if_slow(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int,
    describe: Callable[[_Item], str],
    slow: Sequence[_Item] = (),
) -> Iterator[_Result]:
    """Yield the results of `map_in_processes`, with processes only if the work takes long enough.

    This process computes the first of the ``slow`` items (by default all are), whose time predicts that of the others.
    """
    if not items:
        return
    alike = slow or items
    first = items.index(alike[0])
    started = time.monotonic()
    (result,) = map_in_processes(function, alike[:1], 0, describe)
    seconds = (time.monotonic() - started) * (len(alike) - 1)
    workers = workers if seconds >= _WORTH_PROCESSES else 0
    others = map_in_processes(function, [*items[:first], *items[first + 1 :]], workers, describe)
    yield from islice(others, first)
    yield result
    yield from others


class _Worker:
    """A worker process that computes one item at a time."""

    def __init__(self, function: Callable[[Any], Any], describe: Callable[[Any], str]) -> None:
        self.task = (function, describe)
        self.process = start_process(
            "deconvseg.system.serving",
            environment={"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.started = False
        self.death: DeconvsegError | None = None

    def ask(self, item: Any) -> Any:
        """Return the result of an item, or raise its error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.death is not None:
            # The worker crashed on an earlier item, which the error names.
            raise self.death
        request = pickle.dumps(item if self.started else (*self.task, item))
        self.started = True
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
            # Safe to unpickle: written by this package's own child process.
            result, error, text = pickle.load(self.process.stdout)  # noqa: S301
        except (EOFError, OSError, pickle.UnpicklingError):
            end = ended(self.process.wait(), advice="take fewer workers, or 0")
            self.death = DeconvsegError(f"{self.task[1](item)}: the process that worked on it {end}")
            raise self.death from None
        if error is not None:
            raise error from WorkerTraceback(text)
        return result

    def end(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
