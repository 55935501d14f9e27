"""The three stages of a case, each in a thread: reading and preparing, computing, writing."""

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
    """The processing of one case.

    ``probabilities`` is the file that holds them until they are packed, if they are requested.
    """

    case: Case
    path: Path
    probabilities: Path | None

    @cached_property
    def states(self) -> tuple[FileState, ...]:
        """The state of the image's files at the first access of this attribute."""
        return states_of(self.case)

    @property
    def numbers(self) -> int:
        """The number of values in the image, according to its files' headers."""
        return sum(read_header(file).numbers for file in self.case.images)

    def prepare(self, predictor: Predictor, load: Callable[[Case], Image]) -> PreparedImage:
        """Read the image and resample it to the networks' grids."""
        # Recorded before reading: a file that changes meanwhile then counts as changed in a later prediction.
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
        # The mask is written last: with `skip_existing`, a case is finished when its mask exists.
        write_label_map(mask, self.path, like=self.case.images[0])
        made = records.name_of(self.path), file_sha256(self.path), made_by
        records.add(Record(*made, self.states, self.probabilities is not None, tuple(warnings)))


@dataclass
class Computing:
    """Computes one mask per call; its image is freed when the call ends, before another image is read.

    Images are read in ``thread``, at most one in advance.
    """

    thread: ThreadPoolExecutor
    predictor: Predictor
    load: Callable[[Case], Image]
    say: Callable[[str], None]
    result: Prediction
    ahead: Future[PreparedImage] | None = None
    largest: int = -1

    def __call__(self, job: Job, following: Sequence[Job], tell: Progress) -> LabelMap:
        """Return the mask of a case; the next image is read meanwhile if memory holds both."""
        future, self.ahead = self.ahead or self._read(job), None
        image = future.result()
        # The future holds the image too.
        del future
        estimate = self.predictor.estimate(image)
        for upcoming in following:
            both = _with_next(estimate, job, upcoming)
            if both is not None and _has_room(both, self.predictor.memory):
                self.ahead = self._read(upcoming)
                estimate = both
        if estimate.bytes > self.largest:
            self.say(f"{job.case.name}: {estimate}")
            self.largest = estimate.bytes
        tell(0.0)
        return job.segment(self.predictor, image, tell, partial(self.result.remark, job.case.name))

    def _read(self, job: Job) -> Future[PreparedImage]:
        return self.thread.submit(job.prepare, self.predictor, self.load)


@dataclass
class Writing:
    """Writes masks in ``thread``, one at a time; ``noting`` records the errors of a case."""

    thread: ThreadPoolExecutor
    records: Records
    made_by: str
    result: Prediction
    noting: Callable[[Job], AbstractContextManager[None]]
    at_work: tuple[Job, Future[None]] | None = None

    def start(self, job: Job, mask: LabelMap) -> None:
        """Start writing a mask."""
        remarks = tuple(self.result.remarks.get(job.case.name, ()))
        self.at_work = job, self.thread.submit(job.write, mask, self.records, self.made_by, remarks)

    def finish(self) -> None:
        """Wait until the current mask is written, and record it."""
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
