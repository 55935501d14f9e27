"""What a training step of a network takes on this machine: seconds and memory, measured in a process of its own."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import torch

from deconvseg.errors import DeconvsegError
from deconvseg.planning.recipes import Recipe
from deconvseg.progress import Progress
from deconvseg.system import ended, start_process

TIMING = "timing training steps on this machine"


@dataclass(frozen=True)
class StepCost:
    """Seconds of a training step, and bytes: those of the process without it, with it, and with one window predicted.

    On a GPU the bytes are those of its memory.
    """

    seconds: float
    base: int
    memory: int
    inference: int
    parameters: int

    def scaled(self, voxels: float, *, inference: float) -> "StepCost":
        """Estimate a batch of ``voxels`` times as many, and a window of ``inference`` times as many."""
        # Weights, gradients and the two moments of the optimiser do not grow with the patch.
        fixed, weights = self.base + 16 * self.parameters, self.base + 4 * self.parameters
        return StepCost(
            seconds=self.seconds * voxels,
            base=self.base,
            memory=fixed + int(max(0, self.memory - fixed) * voxels),
            inference=weights + int(max(0, self.inference - weights) * inference),
            parameters=self.parameters,
        )


class Measure(Protocol):
    """How a candidate is measured; :class:`StepMeter` is one."""

    def __call__(
        self, name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, *, regions: bool
    ) -> StepCost | None:
        """Return what a step of a network takes, or None where memory does not suffice."""


def telling(measure: Measure, progress: Progress) -> Measure:
    """Return a measure that tells what it is about to time, and what the one before took."""
    timed: list[str] = []

    def tell(
        name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, *, regions: bool
    ) -> StepCost | None:
        widths = config.get("widths")
        what = f"{name}{f', widths {list(widths)}' if widths else ''}, patch {'x'.join(map(str, patch))}, batch {batch}"
        progress(0.0, ", ".join([f"network {len(timed) + 1}: {what}", *timed[-1:]]))
        cost = measure(name, config, patch, batch, regions=regions)
        timed.append("the one before lacked memory" if cost is None else f"the one before took {cost.seconds:.2f} s")
        return cost

    return tell


class StepMeter:
    """Measures on a device, in another process that starts with this object and ends with its ``with`` block.

    ``memory`` is the number of bytes that a candidate may take (on a CPU under Linux it cannot take more); ``threads``
    are those that it has, by default as many as this process. The steps take the loss of the ``recipe``.
    """

    def __init__(
        self, device: str, memory: int | None = None, threads: int | None = None, recipe: Recipe | None = None
    ) -> None:
        self.device = device
        self.memory = memory
        self.threads = threads
        self.recipe = Recipe() if recipe is None else recipe
        # A file, because a pipe that is not read while the other process writes would fill up and block it.
        self._messages: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = start_process(
            "deconvseg.planning.trial",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> "StepMeter":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._messages.close()

    def __call__(
        self, name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, *, regions: bool
    ) -> StepCost | None:
        """Return what a step takes, or None where memory does not suffice; `DeconvsegError` where the network fails."""
        request = {
            "name": name,
            "config": dict(config),
            "patch": list(patch),
            "batch": batch,
            "device": self.device,
            "regions": regions,
            "threads": self.threads or torch.get_num_threads(),
            "memory": self.memory,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        answer = self._ask(json.dumps(request))
        if "error" in answer:
            raise DeconvsegError(
                f"a training step of {name} failed while it was timed ({answer['error']}); patch {tuple(patch)}, batch "
                f"{batch}; choose another model or preset"
            )
        return None if "short" in answer else StepCost(**answer)

    def _ask(self, request: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        # A process that is killed may leave half an answer.
        if not answer.endswith("\n"):
            status = self._process.wait()
            self._messages.seek(0)
            last = (self._messages.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise DeconvsegError(f"the process that times training steps {ended(status, said=last)}")
        found: dict[str, Any] = json.loads(answer)
        return found
