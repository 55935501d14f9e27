"""Small cases that are computed at the same time, each in a thread with its share of PyTorch's threads.

The layers of a small window have too little work for several threads: two cases with one thread each take less time
than one after the other with two threads each.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from threading import local
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from deconvseg.data import Case, Image
from deconvseg.inference.memory import Estimate
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.models import Network
from deconvseg.ops.precision import autocast_is_on
from deconvseg.ops.torch_internals import has_dispatch_mode, has_function_mode
from deconvseg.system import available_memory

if TYPE_CHECKING:
    from deconvseg.inference.stages import Job, Made

# A case that takes more has enough work for all threads.
_MOST_BYTES = 128 * 2**20
# More threads would wait for each other, because Python runs in one of them at a time.
MOST_CASES = 8


@dataclass(frozen=True)
class ComputedCase:
    """The result of a case, the estimate of its resources, and the warnings about its mask in their order."""

    made: Made
    estimate: Estimate
    notes: list[str]


class Team:
    """Threads that compute one case each, with copies of a predictor that share its networks.

    Attributes:
        size: the number of threads.
        each: the most bytes that a case may take.
        most_numbers: the most values of an image that is expected to take no more.

    """

    def __init__(
        self, predictor: Predictor, load: Callable[[Case], Image], *, size: int, each: int, most_numbers: float
    ) -> None:
        self.size, self.each, self.most_numbers = size, each, most_numbers
        self._predictor, self._load = predictor, load
        self._threads = torch.get_num_threads()
        share = max(1, self._threads // size)
        self._pool = ThreadPoolExecutor(size, "case", torch.set_num_threads, (share,))
        self._own = local()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        # Part of PyTorch's setting belongs to the process.
        torch.set_num_threads(self._threads)

    def start(self, job: Job, image: PreparedImage | None = None) -> Future[ComputedCase | None]:
        """Start a case; its image is read in its thread if it is not given. None if it takes more than ``each``."""
        # The thread sees the same context variables as the caller, such as a forced backend.
        return self._pool.submit(copy_context().run, self._compute, job, image)

    def _compute(self, job: Job, image: PreparedImage | None) -> ComputedCase | None:
        if not hasattr(self._own, "predictor"):
            self._own.predictor = self._predictor.copy_for_thread()
        predictor: Predictor = self._own.predictor
        image = job.prepare(predictor, self._load) if image is None else image
        estimate = predictor.estimate(image)
        if estimate.bytes > self.each:
            return None
        notes: list[str] = []
        return ComputedCase(job.segment(predictor, image, note=notes.append), estimate, notes)


def choose_team(
    predictor: Predictor, load: Callable[[Case], Image], job: Job, estimate: Estimate, cases: int
) -> Team | None:
    """Return a team for so many cases, by the first one and its ``estimate``; None if they are better computed alone.

    All networks must be this package's, on a CPU. All cases together stay below the predictor's limit of memory or,
    without one, below half of the memory that the process may still take.
    """
    most = min(torch.get_num_threads(), MOST_CASES, cases)
    if most < 2 or estimate.bytes > _MOST_BYTES or not _can_share(predictor):
        return None
    room = available_memory() // 2 if predictor.memory is None else predictor.memory
    size = min(most, room // max(estimate.bytes, 1))
    if size < 2:
        return None
    each = min(_MOST_BYTES, room // size)
    return Team(predictor, load, size=size, each=each, most_numbers=job.numbers * each / max(estimate.bytes, 1))


def _can_share(predictor: Predictor) -> bool:
    """Whether several threads may call the networks at the same time and compute the same there."""
    if len(predictor.engines) < len(predictor.plans) or predictor.device.type != "cpu":
        return False
    own = f"{Network.__module__.rpartition('.')[0]}."
    if not all(type(network).__module__.startswith(own) for network in predictor.networks):
        return False
    # These belong to the thread that entered them.
    return not (autocast_is_on("cpu") or has_function_mode() or has_dispatch_mode())
