"""Starts the processes of a training on this machine, reads their messages, and ends them together."""

import json
import math
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from deconvseg.errors import DeconvsegError, InputError, InterruptionError, check_choice
from deconvseg.options import STRATEGIES, TrainOptions
from deconvseg.planning import Plan
from deconvseg.progress import Console, Progress, Timed
from deconvseg.runs import Run
from deconvseg.system import (
    choose_device,
    ended,
    ending,
    ending_signal,
    read_messages,
    start_process,
)
from deconvseg.training.ranks import Ranks
from deconvseg.training.sharing import share_of_batch
from deconvseg.training.tracking import Tracker

_ADDRESS = "127.0.0.1"
_LAST_WORDS = 5.0
_POLL = 0.1


def processes(options: TrainOptions) -> int:
    """Return the number of training processes: those that were started, or the requested number."""
    started = Ranks.find().size
    return started if started > 1 else options.devices or 1


def threads_of_each(options: TrainOptions) -> int:
    """Return the threads of each process: as started, or a share of this process's threads."""
    started = Ranks.find().size > 1
    return max(1, torch.get_num_threads() // (1 if started else processes(options)))


def check_processes(plan: Plan, options: TrainOptions) -> None:
    """Refuse a plan or options that the processes cannot share; :class:`InputError` says what to change."""
    check_spread(options)
    share_of_batch(plan.batch_size, processes(options))


def check_spread(options: TrainOptions) -> None:
    """Refuse options for processes that were not started or are not possible."""
    ranks, count = Ranks.find(), processes(options)
    ranks.check(options.devices, options.nodes)
    check_devices(choose_device(options.device), count // ranks.nodes, options.strategy or "ddp")


def check_devices(device: str, count: int, strategy: str) -> None:
    """Refuse a training that cannot be divided among ``count`` devices of this machine."""
    check_choice(strategy, STRATEGIES, "`strategy`")
    if count == 1:
        return
    kind, _, index = device.partition(":")
    if index or kind == "mps":
        raise InputError(f"`device={device!r}`: is a single device; for `devices={count}` choose cpu or cuda")
    if kind == "cuda" and count > torch.cuda.device_count():
        raise InputError(f"`devices={count}`: this machine has {torch.cuda.device_count()} CUDA devices")


def launch(run: Run, options: TrainOptions, resume: bool, console: Console, tracker: Tracker) -> None:
    """Train a prepared run in ``options.devices`` processes; if one fails, all end, and its error is raised here.

    The ``tracker`` receives the values that the first process logs.
    """
    count = options.devices or 1
    # As in torchrun, the processes meet in a store of their parent.
    store = TCPStore(_ADDRESS, 0, is_master=True, wait_for_workers=False)
    how = "resume" if resume else "start"
    worker, chosen = "deconvseg.training.worker", json.dumps(options.to_json())
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as chatter, console.track("training") as progress:
        processes = [
            start_process(
                *(worker, str(run.path.resolve()), chosen, how),
                environment=_environment(rank, count, store.port, threads_of_each(options)),
                stdout=writer,
                stderr=None if rank == 0 else chatter,
            )
            for rank in range(count)
        ]
        os.close(writer)
        listener = _Listener(os.fdopen(reader, encoding="utf-8"), console, progress, tracker)
        listener.start()
        try:
            with ending(processes):
                _wait(processes)
        except KeyboardInterrupt as interruption:
            raise InterruptionError(f"interrupted; {kept_epochs(run)}") from interruption
        listener.join()
        chatter.seek(0)
        _check([process.returncode for process in processes], listener.errors, run, chatter.read())


def kept_epochs(run: Run) -> str:
    """Describe the completed epochs of an interrupted run, and how to continue it."""
    done = len(run.metrics)
    if not done:
        return f"no epoch was completed, but the plan is kept in {run.path}; continue with `resume=True`"
    epochs = "1 completed epoch is" if done == 1 else f"{done} completed epochs are"
    return f"{epochs} kept in {run.path}; continue with `resume=True`"


class _Listener(threading.Thread):
    """Reads the lines of the processes, passes their messages on, and keeps their errors."""

    def __init__(self, lines: IO[str], console: Console, progress: Progress, tracker: Tracker) -> None:
        super().__init__(daemon=True)
        self.lines = lines
        self.console = console
        self.progress = progress
        self.tracker = tracker
        self.errors: list[dict[str, Any]] = []

    def run(self) -> None:
        """Read until every process has closed its end."""
        with self.lines:
            for message in read_messages(self.lines):
                if "error" in message:
                    self.errors.append(message)
                elif "say" in message:
                    self.console.say(message["say"])
                elif "values" in message:
                    self.tracker.log(message["step"], message["values"])
                else:
                    done = message["done"]
                    self.progress(Timed(done, message["left"]) if "left" in message else done, message["text"])


def _environment(rank: int, count: int, port: int, threads: int) -> dict[str, str]:
    """Return torchrun's environment variables for a process, and its share of the threads."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": _ADDRESS,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "deconvseg",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": str(threads),
    }


def _wait(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Wait until all have ended, or for a while after one has failed, because the others may report the cause."""
    deadline = math.inf
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if deadline == math.inf and any(process.poll() for process in processes):
            deadline = time.monotonic() + _LAST_WORDS
        time.sleep(_POLL)


def _check(codes: Sequence[int], errors: Sequence[dict[str, Any]], run: Run, chatter: bytes) -> None:
    if not any(codes):
        return
    # A process that lost its connection, or was asked to end, is not the cause.
    for error in errors:
        if not error["peer"]:
            raise (InputError if error["code"] == InputError.exit_code else DeconvsegError)(error["error"])
    killed = [rank for rank, code in enumerate(codes) if code < 0 and ending_signal(code) != "SIGTERM"]
    rank = killed[0] if killed else next(rank for rank, code in enumerate(codes) if code)
    last = (chatter.decode(errors="replace").strip().splitlines() or [""])[-1]
    raise DeconvsegError(
        f"training process {rank + 1} of {len(codes)} {ended(codes[rank], said=last)}; the others were ended too; "
        f"{kept_epochs(run)}"
    )
