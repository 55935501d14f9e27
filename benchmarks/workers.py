"""Sides of a comparison in processes of their own, which wait, blocked, while another side is measured.

In one process, a side leaves spinning threads, memory and half-filled caches to the next one. A worker makes its side
once and keeps it through all rounds; a command is answered before the next worker gets one.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch
from common import memory_megabytes, reset_peak, wait_for

Step = Callable[[], object]
# Longer than the threads of OpenMP, oneDNN and oneTBB spin after a loop.
PAUSE_SECONDS = 0.3


class Worker:
    """A process that makes a step by ``make(*arguments)`` and then measures it as often as it is told to."""

    def __init__(self, make: Callable[..., Step], *arguments: object, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments, str(device)), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> float:
        """The seconds in which the side was made."""
        found: float = self._ask("start")
        return found

    def first(self) -> tuple[Any, float]:
        """The result of the first step, and the peak memory of the second one over what was loaded, in megabytes."""
        found: tuple[Any, float] = self._ask("first")
        return found

    def seconds(self) -> float:
        """The time of a step, after one that does not count."""
        time.sleep(PAUSE_SECONDS)
        found: float = self._ask("seconds")
        return found

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()

    def _ask(self, command: str) -> Any:
        self._pipe.send(command)
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise SystemExit(f"the process of a side ended with exit code {self._process.exitcode}") from None


def time_in_turn(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round; each round begins with another side."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(workers[name].seconds())
    return seconds


def _serve(pipe: Connection, make: Callable[..., Step], arguments: tuple[object, ...], device: str) -> None:
    on = torch.device(device)
    commands = {"first": _first, "seconds": _seconds}
    step: Step | None = None
    took = 0.0
    while True:
        try:
            command = pipe.recv()
        except EOFError:
            return
        if step is None:
            begin = time.perf_counter()
            step = make(*arguments)
            took = time.perf_counter() - begin
        pipe.send(took if command == "start" else commands[command](step, on))


def _first(step: Step, device: torch.device) -> tuple[object, float]:
    gc.collect()
    loaded = torch.cuda.memory_allocated() if device.type == "cuda" else memory_megabytes("VmRSS")
    result = step()
    result = result.cpu().float().numpy() if isinstance(result, torch.Tensor) else result
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return result, (torch.cuda.max_memory_allocated() - loaded) / 1e6
    reset_peak()
    step()
    return result, memory_megabytes("VmHWM") - loaded


def _seconds(step: Step, device: torch.device) -> float:
    gc.collect()
    step()
    wait_for(device)
    start = time.perf_counter()
    step()
    wait_for(device)
    return time.perf_counter() - start
