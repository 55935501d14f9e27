"""Computes the masks of cases in order: large ones one after the other, small ones side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from deconvseg.data import Case, Image
from deconvseg.errors import InputError
from deconvseg.inference.memory import Estimate
from deconvseg.inference.parallel_cases import ComputedCase, Team, choose_team
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import Prediction
from deconvseg.inference.stages import Job, Made
from deconvseg.progress import Progress
from deconvseg.system import available_memory, is_out_of_memory


@dataclass
class Computing:
    """Computes one mask per call; its image is freed when the call ends.

    Images are read in ``thread``, at most one in advance. Small cases are read and computed by a team of threads,
    which ends with ``stack``; the calls then start as many of the following cases as there are threads.
    """

    thread: ThreadPoolExecutor
    stack: ExitStack
    predictor: Predictor
    load: Callable[[Case], Image]
    say: Callable[[str], None]
    result: Prediction
    ahead: Future[PreparedImage] | None = None
    largest: int = -1
    team: Team | None = None
    started: dict[int, Future[ComputedCase | None]] = field(default_factory=dict)

    def __call__(self, job: Job, following: Sequence[Job], tell: Progress) -> Made:
        """Return the result of a case; the next image is read meanwhile if both fit into memory."""
        if job.number in self.started:
            return self._await(job, following, tell)
        return self._compute(job, following, tell)

    def _compute(self, job: Job, following: Sequence[Job], tell: Progress, *, alone: bool = False) -> Made:
        future, self.ahead = self.ahead or self._read(job), None
        image = future.result()
        # The future holds the image too.
        del future
        estimate = self.predictor.estimate(image)
        if self.team is None and (chosen := choose_team(self.predictor, self.load, job, estimate, 1 + len(following))):
            self.team = self.stack.enter_context(chosen)
        if self.team is not None and estimate.bytes <= self.team.each and not alone:
            self.started[job.number] = self.team.start(job, image)
            del image
            return self._await(job, following, tell)
        for upcoming in following[:1]:
            both = _with_next(estimate, job, upcoming)
            if both is not None and _has_room(both, self.predictor.memory):
                self.ahead = self._read(upcoming)
                estimate = both
        self._tell_estimate(job, estimate)
        tell(0.0)
        return job.segment(self.predictor, image, tell=tell, note=partial(self.result.remark, job.case.name))

    def _await(self, job: Job, following: Sequence[Job], tell: Progress) -> Made:
        """Start the following cases that are small too, and return the result of a case that the team computes."""
        tell(0.0)
        future = self.started.pop(job.number)
        assert self.team is not None
        # One more than there are threads, so that none waits while a mask is handed on.
        for upcoming in following[: self.team.size]:
            if upcoming.number not in self.started:
                if not self._is_small(upcoming):
                    break
                self.started[upcoming.number] = self.team.start(upcoming)
        try:
            computed = future.result()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            computed = None
        if computed is None:
            # It is too large beside others, and is computed when they have ended.
            wait(self.started.values())
            return self._compute(job, (), tell, alone=True)
        cases = min(self.team.size, 1 + len(self.started))
        together = replace(computed.estimate, bytes=computed.estimate.bytes * cases)
        self._tell_estimate(job, together)
        for note in computed.notes:
            self.result.remark(job.case.name, note)
        return computed.made

    def _is_small(self, job: Job) -> bool:
        """Whether a case may be started beside others, by the headers of its files.

        A case with damaged headers may: its error is raised when it is read.
        """
        assert self.team is not None
        try:
            return job.numbers <= self.team.most_numbers
        except InputError:
            return True

    def _tell_estimate(self, job: Job, estimate: Estimate) -> None:
        if estimate.bytes > self.largest:
            self.say(f"{job.case.name}: {estimate}")
            self.largest = estimate.bytes

    def _read(self, job: Job) -> Future[PreparedImage]:
        return self.thread.submit(job.prepare, self.predictor, self.load)


@contextmanager
def reading_thread() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread that finishes its current task and starts no other when the block ends or fails."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


def _with_next(estimate: Estimate, job: Job, upcoming: Job) -> Estimate | None:
    """Estimate the memory of a case while the next one is read; None if the next one's headers are damaged."""
    try:
        growth = max(1.0, upcoming.numbers / job.numbers)
    except InputError:
        return None
    return replace(estimate, bytes=estimate.bytes + round(growth * estimate.reading))


def _has_room(estimate: Estimate, memory: int | None) -> bool:
    """Whether this much memory, for a case and the next image, is available."""
    return estimate.bytes <= (available_memory() // 2 if memory is None else memory)
