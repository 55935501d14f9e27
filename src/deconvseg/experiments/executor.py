"""The executors of this computer: one task after the other in this process, or several processes."""

from __future__ import annotations

import math
import os
import subprocess
import threading
from collections.abc import Generator, Sequence
from queue import SimpleQueue
from typing import Any

import torch

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.experiments.tasks import Executor, Outcome, Share, Task
from deconvseg.progress import Console
from deconvseg.system import choose_device, ended, ending, read_messages, start_process

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_Message = dict[str, Any]


class Serial(Executor):
    """Runs the tasks in this process, one after the other, with all its threads.

    Example:
        >>> from deconvseg.experiments import Serial
        >>> Serial().slots
        1

    """

    slots = 1

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        """Run every task; an interruption by the user ends all."""
        for task in tasks:
            yield task.run(console)


class Processes(Executor):
    """Runs ``jobs`` tasks at a time, each in a separate process with its share of the ``threads``.

    Each task takes the GPU of ``gpus`` (names as in ``CUDA_VISIBLE_DEVICES``) on which the fewest tasks run.

    Example:
        >>> from deconvseg.experiments import Processes
        >>> executor = Processes(jobs=2, threads=8)
        >>> executor.slots, executor.share(tasks=10).threads
        (2, 4)

    """

    def __init__(self, jobs: int, threads: int, gpus: Sequence[str] = ()) -> None:
        self.jobs = jobs
        self.threads = max(1, threads // jobs)
        self.gpus = gpus

    @property
    def slots(self) -> int:
        """The number of processes at a time."""
        return self.jobs

    def share(self, tasks: int) -> Share:
        """Return the threads of a process, and how many of this many tasks share a device."""
        return Share(self.threads, math.ceil(min(self.slots, tasks) / max(1, len(self.gpus))))

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        """Run every task; the death of a process is an error of its task, and no process outlives the generator."""
        waiting = list(tasks)
        running: dict[str, tuple[Task, subprocess.Popen[str], str | None]] = {}
        ends: dict[str, _Message] = {}
        told: SimpleQueue[tuple[str, _Message | None]] = SimpleQueue()
        started: list[subprocess.Popen[str]] = []
        with ending(started):
            while waiting or running:
                while waiting and len(running) < self.slots:
                    task, taken = waiting.pop(0), [gpu for _, _, gpu in running.values()]
                    gpu = min(self.gpus, key=taken.count, default=None)
                    process = self._start(task, gpu)
                    started.append(process)
                    running[task.key] = task, process, gpu
                    threading.Thread(target=_attend, args=(task, process, told), daemon=True).start()
                key, message = told.get()
                if message is None:
                    task, process, _ = running.pop(key)
                    yield _outcome(task, ends.pop(key, None), process.wait())
                elif "say" in message:
                    running[key][0].console(console).say(message["say"])
                else:
                    ends[key] = message

    def _start(self, task: Task, gpu: str | None) -> subprocess.Popen[str]:
        return start_process(
            *("deconvseg.experiments.worker", str(self.threads)),
            # CUDA reads the variable once, at its first use; a task may use any free device.
            environment=None if gpu is None else {_VISIBLE: gpu},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )


def _attend(task: Task, process: subprocess.Popen[str], told: SimpleQueue[tuple[str, _Message | None]]) -> None:
    """Send a process its task and put its messages into the queue, followed by None in any case."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdout as lines:
            try:
                with process.stdin as stream:
                    stream.write(task.to_json())
            except OSError:
                # The process died before it could read; its exit code says how.
                return
            for message in read_messages(lines):
                told.put((task.key, message))
    finally:
        told.put((task.key, None))


def _outcome(task: Task, end: _Message | None, code: int) -> Outcome:
    if end is None:
        return Outcome(task, error=DeconvsegError(f"its process {ended(code, advice='run fewer together (`jobs`)')}"))
    if "error" in end:
        kind = InputError if end["code"] == InputError.exit_code else DeconvsegError
        return Outcome(task, error=kind(end["error"]))
    return Outcome(task, end["value"])


def choose_executor(jobs: int | None, device: str, devices_each: int = 1) -> Executor:
    """Return an executor of ``jobs`` tasks at a time; by default one, or one for each GPU.

    If a device is named, only that device is used. Raises :class:`InputError` for ``jobs`` below 1, and for several
    ``jobs`` if each task itself runs on several devices.

    Example:
        >>> from deconvseg.experiments import choose_executor
        >>> type(choose_executor(None, "cpu")).__name__, choose_executor(3, "cpu").slots
        ('Serial', 3)

    """
    if jobs is not None and jobs < 1:
        raise InputError(f"`jobs={jobs}`: give the number of tasks to run in parallel, 1 or more")
    if devices_each > 1:
        if jobs not in (None, 1):
            raise InputError(
                f"`jobs={jobs}` together with `devices={devices_each}`: train several folds, or each on several devices"
            )
        jobs = 1
    gpus = _list_gpus() if choose_device(device) == "cuda" else []
    jobs = max(1, len(gpus)) if jobs is None else jobs
    return Serial() if jobs == 1 else Processes(jobs, torch.get_num_threads(), gpus)


def _list_gpus() -> list[str]:
    """Return the GPUs that this process may use, with their names in ``CUDA_VISIBLE_DEVICES``."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]
