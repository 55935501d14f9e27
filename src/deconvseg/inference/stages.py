"""What is done for a case, in three threads: read and prepared, computed, written."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from deconvseg.data import Case, Image, LabelMap, read_header, write_label_map
from deconvseg.errors import InputError
from deconvseg.inference.keeping import maps_path
from deconvseg.inference.masks import EMPTY
from deconvseg.inference.memory import Estimate
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import FileState, Prediction, Record, Records, states_of
from deconvseg.inference.scratch import disk_array
from deconvseg.progress import Progress
from deconvseg.runs import file_sha256
from deconvseg.system import atomic_write, available_memory


@dataclass(frozen=True)
class Job:
    """What is done for one case: in three threads, one step after the other.

    ``probabilities`` is the file that holds them until they are packed, where they are wanted.
    """

    case: Case
    path: Path
    probabilities: Path | None

    @cached_property
    def states(self) -> tuple[FileState, ...]:
        """The image's files as they were when this was first asked for."""
        return states_of(self.case)

    @property
    def numbers(self) -> int:
        """How many numbers the image has, as its files' headers say."""
        return sum(read_header(file).numbers for file in self.case.images)

    def prepare(self, predictor: Predictor, load: Callable[[Case], Image]) -> PreparedImage:
        """Read the image and bring it to the networks' grids."""
        # Before they are read: a file that changes meanwhile is another one to a later prediction.
        self.states  # noqa: B018
        return predictor.prepare(load(self.case), str(self.case.images[0]))

    def segment(
        self,
        predictor: Predictor,
        image: PreparedImage,
        tell: Progress,
        note: Callable[[str], None],
    ) -> LabelMap:
        """Compute the mask, and the probabilities into their file."""
        if self.probabilities is None:
            return predictor.segment(image, tell=tell, note=note)
        with ExitStack() as failing:
            failing.callback(self.probabilities.unlink, missing_ok=True)
            maps = disk_array(self.probabilities, (predictor.plan.outputs, *image.shape))
            mask = predictor.segment(image, probabilities=maps, tell=tell, note=note)
            failing.pop_all()
        return mask

    def write(self, mask: LabelMap, records: Records, made_by: str, warnings: Sequence[str]) -> None:
        """Write the probabilities, the mask and its record, in this order."""
        if self.probabilities is not None:
            try:
                with (
                    atomic_write(maps_path(self.path)) as temporary,
                    zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
                ):
                    archive.write(self.probabilities, "probabilities.npy")
            finally:
                self.probabilities.unlink()
        # The mask comes last: with `skip_existing`, a case is done when its mask is there.
        write_label_map(mask, self.path, like=self.case.images[0])
        made = records.name_of(self.path), file_sha256(self.path), made_by
        records.add(Record(*made, self.states, self.probabilities is not None, tuple(warnings)))


class Computing:
    """Masks, each in a call of its own: when it ends, its image goes, before another one is read.

    Images are read in ``thread``; at most one before its turn.
    """

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        predictor: Predictor,
        load: Callable[[Case], Image],
        say: Callable[[str], None],
        result: Prediction,
    ) -> None:
        self.predictor = predictor
        self.read: Callable[[Job], Future[PreparedImage]] = lambda job: thread.submit(job.prepare, predictor, load)
        self.say = say
        self.result = result
        self.ahead: Future[PreparedImage] | None = None
        self.largest = -1

    def __call__(self, job: Job, following: Sequence[Job], tell: Progress) -> LabelMap:
        """Return the mask of a case; the next image is read meanwhile where there is room for both."""
        future, self.ahead = self.ahead or self.read(job), None
        image = future.result()
        # The future holds the image too.
        del future
        estimate = self.predictor.estimate(image)
        for upcoming in following:
            both = _with_next(estimate, job, upcoming)
            if both is not None and _has_room(both, self.predictor.memory):
                self.ahead = self.read(upcoming)
                estimate = both
        if estimate.bytes > self.largest:
            self.say(f"{job.case.name}: {estimate}")
            self.largest = estimate.bytes
        tell(0.0)
        return job.segment(self.predictor, image, tell, partial(self.result.remark, job.case.name))


class Writing:
    """The mask that is being written in ``thread``, at most one; ``noting`` is around what is done for a case."""

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        records: Records,
        made_by: str,
        result: Prediction,
        noting: Callable[[Job], AbstractContextManager[None]],
    ) -> None:
        self.thread = thread
        self.records = records
        self.made_by = made_by
        self.result = result
        self.noting = noting
        self.at_work: tuple[Job, Future[None]] | None = None

    def start(self, job: Job, mask: LabelMap) -> None:
        """Begin to write a mask."""
        remarks = tuple(self.result.remarks.get(job.case.name, ()))
        self.at_work = job, self.thread.submit(job.write, mask, self.records, self.made_by, remarks)

    def finish(self) -> None:
        """Wait for the mask that is being written, and note it."""
        if self.at_work is None:
            return
        (job, future), self.at_work = self.at_work, None
        with self.noting(job):
            future.result()
            self.result.written.append(job.path)
            if EMPTY in self.result.remarks.get(job.case.name, ()):
                self.result.empty.append(job.path)


@contextmanager
def reading_thread() -> Iterator[ThreadPoolExecutor]:
    """Give a thread that, when the block ends or fails, finishes what it is at and nothing more."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


def _with_next(estimate: Estimate, job: Job, upcoming: Job) -> Estimate | None:
    """Foresee what a case takes while the next one is read; None where its headers are damaged, which is told then."""
    try:
        growth = max(1.0, upcoming.numbers / job.numbers)
    except InputError:
        return None
    return replace(estimate, bytes=estimate.bytes + round(growth * estimate.reading))


def _has_room(estimate: Estimate, memory: int | None) -> bool:
    """Whether an image may be read beside one at work, if both together take so much."""
    return estimate.bytes <= (available_memory() // 2 if memory is None else memory)
