"""Predict case after case; the next image is read and the last mask written while the network computes."""

from __future__ import annotations

import secrets
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data import (
    Case,
    Image,
    LabelMap,
    atomic_write,
    bids_mask_paths,
    case_stem,
    make_folder,
    mask_suffix,
    write_bids_description,
    write_label_map,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference.memory import Estimate
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.runner import is_out_of_memory

# After an image that took more to read, the next one is not read before the work on it is done.
_MOST_READ_AHEAD = 4 * 10**8


@dataclass
class Prediction:
    """What was written, what was there already, and what failed and why."""

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists of strings."""
        return {
            "written": [str(p) for p in self.written],
            "skipped": [str(p) for p in self.skipped],
            "problems": self.problems,
        }


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

    A case that fails is a problem of the result; with ``raise_problems`` its error is raised instead. ``progress`` is
    told which case is at work and the fraction of all work that is done; ``say``, before it starts, the windows and the
    memory that a case takes, if it is the first or takes more than those before it.
    """
    paths = _mask_paths(predictor, cases, output, bids)
    result, todo = Prediction(), []
    for case in cases:
        path = paths[case.name]
        if skip_existing and path.exists():
            result.skipped.append(path)
        else:
            todo.append(_Job(case, path, save_probabilities))
    noting = partial(_noting, result, raise_problems=raise_problems)
    largest, ahead = -1, None
    with _one_thread() as reader, _one_thread() as writer:
        writing = _Writing(writer, result)
        for number, job in enumerate(todo):
            with noting(job):
                upcoming, ahead = ahead or reader.submit(job.prepare, predictor, load), None
                image = upcoming.result()
                estimate = predictor.estimate(image)
                if number + 1 < len(todo) and _has_room(estimate, predictor.memory):
                    ahead = reader.submit(todo[number + 1].prepare, predictor, load)
                    estimate = replace(estimate, bytes=estimate.bytes + estimate.reading)
                if estimate.bytes > largest:
                    say(f"{job.case.name}: {estimate}")
                    largest = estimate.bytes
                tell = partial(_tell_part, progress, job.case.name, number, len(todo))
                tell(0.0)
                mask = job.segment(predictor, image, tell)
                if writing.job is not None:
                    with noting(writing.job):
                        writing.finish()
                writing.start(job, mask)
        if writing.job is not None:
            with noting(writing.job):
                writing.finish()
    return result


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
    """What is done for one case: in three threads, one step after the other."""

    case: Case
    path: Path
    save_probabilities: bool

    def prepare(self, predictor: Predictor, load: Callable[[Case], Image]) -> PreparedImage:
        if any(self.path.resolve() == file.resolve() for file in self.case.images):
            raise InputError(f"{self.path}: the mask would replace its own image; choose another output folder with -o")
        return predictor.prepare(load(self.case), str(self.case.images[0]))

    def segment(self, predictor: Predictor, image: PreparedImage, tell: Callable[[float], None]) -> LabelMap:
        if not self.save_probabilities:
            return predictor.segment(image, tell=tell)
        with _disk_array(self.path, (predictor.plan.outputs, *image.shape)) as (file, probabilities):
            mask = predictor.segment(image, probabilities=probabilities, tell=tell)
            probabilities.flush()
            with (
                atomic_write(self.path.with_name(f"{case_stem(self.path)}.npz")) as temporary,
                zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
            ):
                archive.write(file, "probabilities.npy")
        return mask

    def write(self, mask: LabelMap) -> None:
        # The mask comes last: with --continue, a case is done when its mask is there.
        write_label_map(mask, self.path, like=self.case.images[0])


class _Writing:
    """The mask that is being written, at most one."""

    def __init__(self, thread: ThreadPoolExecutor, result: Prediction) -> None:
        self.thread = thread
        self.result = result
        self.job: _Job | None = None
        self.future: Future[None] | None = None

    def start(self, job: _Job, mask: LabelMap) -> None:
        self.job, self.future = job, self.thread.submit(job.write, mask)

    def finish(self) -> None:
        job, future, self.job, self.future = self.job, self.future, None, None
        if job is not None and future is not None:
            future.result()
            self.result.written.append(job.path)


@contextmanager
def _one_thread() -> Iterator[ThreadPoolExecutor]:
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
    except DeconvsegError as error:
        if raise_problems:
            raise
        result.problems.append(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        result.problems.append(f"{job.case.images[0]}: not enough memory for this image ({error}); the others go on")


@contextmanager
def _disk_array(beside: Path, shape: tuple[int, ...]) -> Iterator[tuple[Path, np.memmap[Any, np.dtype[np.float32]]]]:
    """Give a temporary ``.npy`` file and the array in it, which needs not fit into memory."""
    file = make_folder(beside.parent) / f".{secrets.token_hex(8)}.npy"
    try:
        yield file, np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    except OSError as error:
        raise DeconvsegError(
            f"cannot write {file}: {error.strerror or error}; free some space and run it again"
        ) from error
    finally:
        file.unlink(missing_ok=True)


def _has_room(estimate: Estimate, memory: int | None) -> bool:
    """Whether the next image may be read beside the one at work, if it is as large."""
    return estimate.reading <= (_MOST_READ_AHEAD if memory is None else memory - estimate.bytes)


def _tell_part(progress: Callable[[str, float], None], name: str, number: int, count: int, fraction: float) -> None:
    progress(name, (number + fraction) / count)
