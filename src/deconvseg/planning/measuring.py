"""Measure the time and memory of a training step on this machine, in a separate process."""

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
    """Seconds of a training step, and bytes of the process before it, in training, and in prediction of one window.

    On a GPU the bytes are those of the GPU's memory.
    """

    seconds: float
    base: int
    memory: int
    inference: int
    parameters: int

    def scaled(self, voxels: float, *, inference: float) -> "StepCost":
        """Estimate the cost for ``voxels`` times as many voxels per batch, ``inference`` times as many per window."""
        # Weights, gradients and the optimiser's two moments do not depend on the patch.
        fixed, weights = self.base + 16 * self.parameters, self.base + 4 * self.parameters
        return StepCost(
            seconds=self.seconds * voxels,
            base=self.base,
            memory=fixed + int(max(0, self.memory - fixed) * voxels),
            inference=weights + int(max(0, self.inference - weights) * inference),
            parameters=self.parameters,
        )


class Measure(Protocol):
    """A function that measures a candidate, such as :class:`StepMeter`."""

    def __call__(
        self, name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, *, regions: bool
    ) -> StepCost | None:
        """Return the cost of a training step of a network, or None if memory does not suffice."""


def telling(measure: Measure, progress: Progress) -> Measure:
    """Return a measure that reports the candidate that it measures next, and the time of the one before."""
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
    """Measures on a device, in a separate process that starts with this object and ends with its ``with`` block.

    ``memory`` is the number of bytes that a candidate may use (enforced on a CPU under Linux); ``threads`` is its
    number of threads, by default that of this process. The steps use the loss of the ``recipe``.
    """

    def __init__(
        self, device: str, memory: int | None = None, threads: int | None = None, recipe: Recipe | None = None
    ) -> None:
        self.device = device
        self.memory = memory
        self.threads = threads
        self.recipe = Recipe() if recipe is None else recipe
        # A file and not a pipe: a pipe that is not read fills up and blocks the process that writes.
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
        """Return the cost of a step, or None if memory does not suffice; `DeconvsegError` if the network fails."""
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
        # A process that is killed may leave an incomplete answer.
        if not answer.endswith("\n"):
            status = self._process.wait()
            self._messages.seek(0)
            last = (self._messages.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise DeconvsegError(f"the process that times training steps {ended(status, said=last)}")
        found: dict[str, Any] = json.loads(answer)
        return found
