"""Predict case after case; the next image is read and the last mask written while the network computes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from deconvseg.data import (
    Case,
    Image,
    LabelMap,
    bids_mask_paths,
    mask_suffix,
    read_header,
    write_bids_description,
    write_label_map,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference.keeping import Verdict, judge, maps_path, retire
from deconvseg.inference.masks import EMPTY
from deconvseg.inference.memory import Estimate
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import FileState, Prediction, Record, Records, states_of
from deconvseg.inference.scratch import disk_array, scratch_folder
from deconvseg.planning import available_memory, is_out_of_memory
from deconvseg.runs import file_sha256
from deconvseg.system import atomic_write, hold, make_folder, remove_unfinished


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output: Path,
    *,
    load: Callable[[Case], Image],
    save_probabilities: bool = False,
    skip_existing: bool = False,
    bids: bool = False,
    raise_problems: bool = False,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
    say: Callable[[str], None] = lambda text: None,
) -> Prediction:
    """Write the mask of each case (and, on request, its probabilities as ``.npz`` beside it) into a folder.

    A mask has the name of its case. With ``bids`` the folder becomes a BIDS derivative, its masks named as
    :func:`~deconvseg.data.bids_mask_paths` says, which needs images with BIDS names.

    A case that fails is a problem of the result; with ``raise_problems`` its error is raised instead. An earlier mask
    of it gets the ending ``.old``, so that nothing takes it for a new one. With ``skip_existing`` masks stay that were
    made from the same images by the same networks with the same options, as ``predictions.jsonl`` beside them records
    (and that have their probabilities, where these are wanted); masks without a record stay if they fit their image.

    ``progress`` is told which case is at work and the fraction of all work that is done; ``say``, before it starts, the
    windows and the memory that a case takes, if it is the first or takes more than those before it.
    """
    paths = _mask_paths(predictor, cases, output, bids)
    _refuse_replacing(cases, paths.values())
    result = Prediction()
    noting = partial(_noting, result, raise_problems=raise_problems)
    with ExitStack() as stack:
        # Several may write into one folder, as parts of a dataset do; a mask is one's alone.
        if cases:
            names = [paths[case.name].relative_to(output).as_posix() for case in cases]
            tidy = partial(_remove_unfinished, {output, *(path.parent for path in paths.values())})
            stack.enter_context(hold(output, names, alone=tidy))
        records, todo = Records(output, predictor.runs), list(cases)
        if skip_existing:
            judged = partial(judge, predictor=predictor, records=records, load=load, probabilities=save_probabilities)
            todo = [case for case in cases if not _stands(paths[case.name], case, judged, result)]
        scratch = stack.enter_context(scratch_folder(output)) if save_probabilities else None
        reading = _Reading(stack.enter_context(_reader()), predictor, load)
        # A mask that is finished is written, whatever happens to the next one.
        writing = _Writing(stack.enter_context(ThreadPoolExecutor(1)), result, records, predictor.identity)
        computing = _Computing(predictor, reading, say, result)
        jobs = [_Job(case, paths[case.name], scratch and scratch / f"{number}.npy") for number, case in enumerate(todo)]
        for number, job in enumerate(jobs):
            with noting(job):
                tell = partial(_tell_part, progress, job.case.name, number, len(jobs))
                mask = computing(job, jobs[number + 1 : number + 2], tell)
                if writing.job is not None:
                    with noting(writing.job):
                        writing.finish()
                writing.start(job, mask)
                del mask
        if writing.job is not None:
            with noting(writing.job):
                writing.finish()
    result.log_alike()
    if result.empty and len(result.written) > 1:
        result.warn(f"{len(result.empty)} of {len(result.written)} masks are empty")
    return result


def _remove_unfinished(folders: Iterable[Path]) -> None:
    """Remove what predictions that were killed have left."""
    for folder in folders:
        remove_unfinished(folder)


def _stands(path: Path, case: Case, judged: Callable[[Path, Case], Verdict], result: Prediction) -> bool:
    """Note what becomes of a case's mask with ``skip_existing``: whether it stands."""
    if not path.is_file():
        return False
    verdict = judged(path, case)
    text = verdict.text
    if verdict.retire:
        text = f"{text}; the earlier one is now {retire(path)}"
    if text is not None:
        result.remark(case.name, text)
    if verdict.stands:
        result.skipped.append(path)
    return verdict.stands


def _refuse_replacing(cases: Sequence[Case], paths: Iterable[Path]) -> None:
    """Refuse masks that would lie where images or true masks are."""
    given = {_target(file) for case in cases for file in case.files}
    for path in paths:
        if _target(path) in given:
            raise InputError(
                f"{path}: is a file of the data, which a mask would replace; choose another folder with -o"
            )


def _target(path: Path) -> Path:
    """The path without links; as it is where links lead to themselves, which reading it says."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _mask_paths(predictor: Predictor, cases: Sequence[Case], output: Path, bids: bool) -> dict[str, Path]:
    """Where the mask of each case goes; the folder is there then, and described where it is a BIDS derivative."""
    labels = predictor.plan.labels
    if not bids:
        make_folder(output)
        return {case.name: output / f"{case.name}{mask_suffix(case.images[0], labels.values)}" for case in cases}
    paths = bids_mask_paths(cases, output, labels.values)
    write_bids_description(output, dict(zip(labels.values, labels.names, strict=True)))
    return paths


@dataclass(frozen=True)
class _Job:
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
        # Before they are read: a file that changes meanwhile is another one to a later prediction.
        self.states  # noqa: B018
        return predictor.prepare(load(self.case), str(self.case.images[0]))

    def segment(
        self,
        predictor: Predictor,
        image: PreparedImage,
        tell: Callable[[float], None],
        note: Callable[[str], None],
    ) -> LabelMap:
        if self.probabilities is None:
            return predictor.segment(image, tell=tell, note=note)
        with ExitStack() as failing:
            failing.callback(self.probabilities.unlink, missing_ok=True)
            maps = disk_array(self.probabilities, (predictor.plan.outputs, *image.shape))
            mask = predictor.segment(image, probabilities=maps, tell=tell, note=note)
            failing.pop_all()
        return mask

    def write(self, mask: LabelMap, records: Records, made_by: str, warnings: Sequence[str]) -> None:
        if self.probabilities is not None:
            try:
                with (
                    atomic_write(maps_path(self.path)) as temporary,
                    zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
                ):
                    archive.write(self.probabilities, "probabilities.npy")
            finally:
                self.probabilities.unlink()
        # The mask comes last: with --continue, a case is done when its mask is there.
        write_label_map(mask, self.path, like=self.case.images[0])
        made = records.name_of(self.path), file_sha256(self.path), made_by
        records.add(Record(*made, self.states, self.probabilities is not None, tuple(warnings)))


class _Reading:
    """Images, brought to the networks' grids; at most one before its turn."""

    def __init__(self, thread: ThreadPoolExecutor, predictor: Predictor, load: Callable[[Case], Image]) -> None:
        self.thread = thread
        self.predictor = predictor
        self.load = load
        self.ahead: Future[PreparedImage] | None = None

    def start(self, job: _Job) -> None:
        self.ahead = self._submit(job)

    def finish(self, job: _Job) -> PreparedImage:
        future, self.ahead = self.ahead or self._submit(job), None
        return future.result()

    def _submit(self, job: _Job) -> Future[PreparedImage]:
        return self.thread.submit(job.prepare, self.predictor, self.load)


class _Computing:
    """Masks, each in a call of its own: when it ends, its image goes, before another one is read."""

    def __init__(self, predictor: Predictor, reading: _Reading, say: Callable[[str], None], result: Prediction) -> None:
        self.predictor = predictor
        self.reading = reading
        self.say = say
        self.result = result
        self.largest = -1

    def __call__(self, job: _Job, following: Sequence[_Job], tell: Callable[[float], None]) -> LabelMap:
        image = self.reading.finish(job)
        estimate = self.predictor.estimate(image)
        for upcoming in following:
            both = _with_next(estimate, job, upcoming)
            if both is not None and _has_room(both, self.predictor.memory):
                self.reading.start(upcoming)
                estimate = both
        if estimate.bytes > self.largest:
            self.say(f"{job.case.name}: {estimate}")
            self.largest = estimate.bytes
        tell(0.0)
        return job.segment(self.predictor, image, tell, partial(self.result.remark, job.case.name))


class _Writing:
    """The mask that is being written, at most one."""

    def __init__(self, thread: ThreadPoolExecutor, result: Prediction, records: Records, made_by: str) -> None:
        self.thread = thread
        self.result = result
        self.records = records
        self.made_by = made_by
        self.job: _Job | None = None
        self.future: Future[None] | None = None

    def start(self, job: _Job, mask: LabelMap) -> None:
        remarks = tuple(self.result.remarks.get(job.case.name, ()))
        self.job, self.future = job, self.thread.submit(job.write, mask, self.records, self.made_by, remarks)

    def finish(self) -> None:
        job, future, self.job, self.future = self.job, self.future, None, None
        if job is None or future is None:
            return
        future.result()
        self.result.written.append(job.path)
        if EMPTY in self.result.remarks.get(job.case.name, ()):
            self.result.empty.append(job.path)


@contextmanager
def _reader() -> Iterator[ThreadPoolExecutor]:
    """Give a thread that, when the block ends or fails, finishes what it is at and nothing more."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


@contextmanager
def _noting(result: Prediction, job: _Job, *, raise_problems: bool) -> Iterator[None]:
    """Make what goes wrong with one case a problem of the result, and go on."""
    try:
        yield
    except (DeconvsegError, MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            problem = f"{job.case.images[0]}: not enough memory for this image ({error}); the others go on"
        elif isinstance(error, DeconvsegError):
            problem = str(error)
            if raise_problems:
                earlier = retire(job.path)
                if earlier is not None:
                    result.remark(job.case.name, f"its earlier mask is now {earlier}")
                raise
        else:
            raise
        earlier = retire(job.path)
        result.problems.append(problem if earlier is None else f"{problem}; its earlier mask is now {earlier}")


def _with_next(estimate: Estimate, job: _Job, upcoming: _Job) -> Estimate | None:
    """Foresee what a case takes while the next one is read; None where its headers are damaged, which is told then."""
    try:
        growth = max(1.0, upcoming.numbers / job.numbers)
    except InputError:
        return None
    return replace(estimate, bytes=estimate.bytes + round(growth * estimate.reading))


def _has_room(estimate: Estimate, memory: int | None) -> bool:
    """Whether an image may be read beside one at work, if both together take so much."""
    return estimate.bytes <= (available_memory() // 2 if memory is None else memory)


def _tell_part(progress: Callable[[str, float], None], name: str, number: int, count: int, fraction: float) -> None:
    progress(name, (number + fraction) / count)
