"""Who trains the folds: this process, one after the other, or several processes at once."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.progress import Console, Progress
from deconvseg.system import child_environment, choose_device, ended, ending, one_line, python_command, read_messages
from deconvseg.training import train

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
                problems[task.fold] = one_line(error)
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
        """Train every fold; a process that dies is a problem of its fold, and none outlives this call."""
        waiting = list(tasks)
        running: dict[int, tuple[subprocess.Popen[str], str | None]] = {}
        problems: dict[int, str] = {}
        told: SimpleQueue[tuple[int, dict[str, Any] | None]] = SimpleQueue()
        started: list[subprocess.Popen[str]] = []
        try:
            with ending(started):
                while waiting or running:
                    while waiting and len(running) < self.jobs:
                        task, taken = waiting.pop(0), [gpu for _, gpu in running.values()]
                        gpu = min(self.gpus, key=taken.count, default=None)
                        process = self._start(task, gpu)
                        started.append(process)
                        running[task.fold] = process, gpu
                        threading.Thread(target=_listen, args=(task.fold, process, told), daemon=True).start()
                    fold, message = told.get()
                    if message is None:
                        process, _ = running.pop(fold)
                        if code := process.wait():
                            advice = "run fewer folds at once (jobs)"
                            problems.setdefault(fold, f"its process {ended(code, advice=advice)}")
                    elif "error" in message:
                        problems[fold] = message["error"]
                        console.say(f"fold {fold}: failed: {message['error']}")
                    else:
                        console.say(f"fold {fold}: {message['say']}")
        except KeyboardInterrupt:
            raise InterruptionError("interrupted; completed epochs are kept, go on with --resume") from None
        return problems

    def _start(self, task: FoldTask, gpu: str | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            python_command("deconvseg.experiments.worker", json.dumps(dict(task.arguments)), str(self.threads)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # CUDA looks once; a run can go on on whichever device is free.
            env=child_environment(**({} if gpu is None else {_VISIBLE: gpu})),
            text=True,
            encoding="utf-8",
        )


def _listen(fold: int, process: subprocess.Popen[str], told: SimpleQueue[tuple[int, dict[str, Any] | None]]) -> None:
    """Put the messages of a process into the queue, and None after the last one, however the process ends."""
    assert process.stdout is not None
    try:
        with process.stdout as lines:
            for message in read_messages(lines):
                told.put((fold, message))
    finally:
        told.put((fold, None))


class _Prefixed:
    """The console of a fold in this process."""

    def __init__(self, console: Console, fold: int) -> None:
        self.console, self.fold = console, fold

    def say(self, text: str) -> None:
        self.console.say(f"fold {self.fold}: {text}")

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        return self.console.track(f"fold {self.fold}: {text}", total)


def choose_executor(jobs: int | None, device: str, devices_each: int) -> Serial | Processes:
    """Return what trains the folds: as many processes as ``jobs``, by default one, or one for each of several GPUs.

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
