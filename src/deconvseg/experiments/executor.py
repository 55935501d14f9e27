"""Who trains the folds: this process, one after the other, or several processes at once."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, cast

from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.planning import choose_device, keep_freed_memory
from deconvseg.training import Console, train

# What a process ends with that the system has killed (SIGKILL, which Windows does not have).
_KILLED = -9
# Long enough for a fold that was interrupted to write its last state.
_PATIENCE = 60.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class FoldTask:
    """One fold to train, with the arguments of :func:`~deconvseg.training.train`."""

    fold: int
    arguments: Mapping[str, Any]


class Executor(Protocol):
    """What trains folds; a floor above may pass one that uses a cluster."""

    def run(self, tasks: Sequence[FoldTask], console: Console) -> dict[int, str]:
        """Train every fold and return why some failed, by fold; one that fails does not stop the others."""


class Serial:
    """Trains the folds in this process, one after the other, with all its threads."""

    def run(self, tasks: Sequence[FoldTask], console: Console) -> dict[int, str]:
        """Train every fold; what the user stops stops all."""
        problems: dict[int, str] = {}
        for task in tasks:
            try:
                train(**task.arguments, console=_Prefixed(console, task.fold))
            except InterruptionError:
                raise
            # Also what PyTorch raises where memory does not suffice: the next fold may still fit or go on elsewhere.
            except (DeconvsegError, MemoryError, OSError, RuntimeError) as error:
                problems[task.fold] = " ".join(str(error).split())
                console.say(f"fold {task.fold}: failed: {problems[task.fold]}")
        return problems


class Processes:
    """Trains ``jobs`` folds at once, each in a process of its own that has its share of the threads.

    Of ``gpus`` (names as in ``CUDA_VISIBLE_DEVICES``) each takes the one on which the fewest folds are trained.
    """

    def __init__(self, jobs: int, threads: int, gpus: Sequence[str] = ()) -> None:
        self.jobs = jobs
        self.threads = max(1, threads // jobs)
        self.gpus = gpus

    def count_on_device(self, folds: int) -> int:
        """Return how many of so many folds are trained on one device at once."""
        return math.ceil(min(self.jobs, folds) / max(1, len(self.gpus)))

    def run(self, tasks: Sequence[FoldTask], console: Console) -> dict[int, str]:
        """Train every fold; a process that dies is a problem of its fold."""
        waiting = list(tasks)
        running: dict[Connection, tuple[int, SpawnProcess, str | None]] = {}
        problems: dict[int, str] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    task, taken = waiting.pop(0), [gpu for _, _, gpu in running.values()]
                    gpu = min(self.gpus, key=taken.count, default=None)
                    receiver, process = self._start(task, gpu)
                    running[receiver] = task.fold, process, gpu
                for ready in wait(list(running)):
                    receiver = cast("Connection", ready)
                    fold, process, _ = running[receiver]
                    try:
                        kind, text = json.loads(receiver.recv_bytes())
                    except EOFError:
                        process.join()
                        del running[receiver]
                        if process.exitcode:
                            problems.setdefault(fold, _describe_end(process.exitcode))
                        continue
                    if kind == "problem":
                        problems[fold] = text
                    console.say(f"fold {fold}: {text if kind == 'line' else f'failed: {text}'}")
        except KeyboardInterrupt:
            # The terminal has sent the signal to the folds too.
            raise InterruptionError("interrupted; completed epochs are kept, go on with --resume") from None
        finally:
            for _, process, _ in running.values():
                process.join(_PATIENCE)
                process.terminate()
        return problems

    def _start(self, task: FoldTask, gpu: str | None) -> tuple[Connection, SpawnProcess]:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train_fold, args=(task, self.threads, sender), name=f"fold {task.fold}")
        # Before it starts: CUDA looks once.
        with _seeing(gpu):
            process.start()
        # Only the process holds its end from now on: when it dies, however it does, this end says so.
        sender.close()
        return receiver, process


def _train_fold(task: FoldTask, threads: int, sender: Connection) -> None:
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        train(**task.arguments, console=_Sending(sender))
    except DeconvsegError as error:
        _send(sender, "problem", str(error))
        sys.exit(error.exit_code)


def _describe_end(code: int) -> str:
    if code == _KILLED:
        return "its process was killed, probably for want of memory: run fewer folds at once (--jobs)"
    return f"its process ended with {code}; what it printed says more"


def _send(sender: Connection, kind: str, text: str) -> None:
    sender.send_bytes(json.dumps([kind, text]).encode())


class _Prefixed:
    """The console of a fold in this process."""

    def __init__(self, console: Console, fold: int) -> None:
        self.console, self.fold = console, fold

    def say(self, text: str) -> None:
        self.console.say(f"fold {self.fold}: {text}")

    def track(self, items: Sequence[Any], text: str) -> Any:
        return self.console.track(items, f"fold {self.fold}: {text}")

    def meter(self) -> AbstractContextManager[Callable[[str, float], None]]:
        return self.console.meter()


class _Sending:
    """The console of a fold in another process: sends lines, one for each tenth of the way."""

    def __init__(self, sender: Connection) -> None:
        self.sender = sender

    def say(self, text: str) -> None:
        _send(self.sender, "line", text)

    def track(self, items: Sequence[Any], text: str) -> Sequence[Any]:
        return items

    @contextmanager
    def meter(self) -> Iterator[Callable[[str, float], None]]:
        told = -1

        def tell(text: str, fraction: float) -> None:
            nonlocal told
            if int(fraction * 10) > told:
                told = int(fraction * 10)
                self.say(f"{fraction:4.0%}  {text}")

        yield tell


def choose_executor(jobs: int | None, device: str, devices_each: int) -> Serial | Processes:
    """Return who trains: as many processes as ``jobs``, by default one, or one for each of several GPUs.

    A device that is named is the only one to be used. Raises :class:`InputError` for ``jobs`` below 1, and for several
    beside folds that are themselves trained on several devices.
    """
    import torch

    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: give the number of folds to train at once, 1 or more")
    if devices_each > 1:
        if jobs not in (None, 1):
            raise InputError(f"--jobs {jobs} beside --devices {devices_each}: train folds at once, or each on several")
        jobs = 1
    gpus = _list_gpus() if choose_device(device) == "cuda" else []
    jobs = max(1, len(gpus)) if jobs is None else jobs
    return Serial() if jobs == 1 else Processes(jobs, torch.get_num_threads(), gpus)


def _list_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]


@contextmanager
def _seeing(gpu: str | None) -> Iterator[None]:
    """Let processes that are started meanwhile see one GPU alone; a run can go on on whichever is free."""
    before = os.environ.get(_VISIBLE)
    if gpu is not None:
        os.environ[_VISIBLE] = gpu
    try:
        yield
    finally:
        if before is not None:
            os.environ[_VISIBLE] = before
        elif gpu is not None:
            del os.environ[_VISIBLE]
