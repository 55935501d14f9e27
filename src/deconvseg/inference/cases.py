"""Predict one case after the other; the next image is read and the previous mask written while the network computes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, Image, LabelMap, name_beside
from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.inference.computing import Computing, reading_thread
from deconvseg.inference.doubt_table import write_doubts
from deconvseg.inference.keeping import Verdict, judge, retire
from deconvseg.inference.mask_formats import AS_IMAGES, MaskFormat, SegmentationWriter, is_segmentation
from deconvseg.inference.parallel_cases import MOST_CASES
from deconvseg.inference.placing import mask_paths, refuse_replacing
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.records import Prediction, Records
from deconvseg.inference.region_masks import check_regions
from deconvseg.inference.scratch import scratch_folder
from deconvseg.inference.stages import Job, Writing
from deconvseg.inference.wanting import Wanted
from deconvseg.progress import SILENT, Console, Progress, takes_console
from deconvseg.system import hold, is_out_of_memory, remove_unfinished
from deconvseg.text import number_of


@takes_console
def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output: Path,
    *,
    load: Callable[[Case], Image],
    save_probabilities: bool = False,
    probabilities: bool = False,
    save_regions: bool = False,
    measure: Callable[[Case, NDArray[np.uint8], LabelMap], None] | None = None,
    doubt_limit: float | None = None,
    skip_existing: bool = False,
    bids: bool = False,
    masks: MaskFormat = AS_IMAGES,
    segmentation: SegmentationWriter | None = None,
    raise_problems: bool = False,
    console: Console = SILENT,
) -> Prediction:
    """Write the mask of each case into a folder.

    With ``save_probabilities`` its probabilities are written next to it as ``.npz``, with ``probabilities`` as an image
    on its grid (:func:`~deconvseg.inference.map_files.map_paths`). With ``save_regions`` each region is also written as
    a file of its own, ``regions/REGION/CASE.nii.gz``, which is 1 where the region is predicted, whatever the others
    (:class:`~deconvseg.data.RegionFiles`); the mask holds the regions as they are painted. ``measure`` is called in
    another thread with each case, the number of thresholds that each voxel passes (:meth:`Rule.levels`), and the mask;
    cases whose levels take more than 2 GiB are left out. The doubt of each case is recorded and listed in
    ``doubt.csv``; cases above ``doubt_limit`` are flagged.

    A mask has the name of its case, and the format of its image unless ``masks`` says otherwise; ``segmentation``
    writes those that are DICOM segmentations. With ``bids`` the folder becomes a BIDS derivative with masks named by
    :func:`~deconvseg.data.bids_mask_paths`, which requires images with BIDS names.

    A case that fails is a problem of the result; with ``raise_problems`` its error is raised instead. Its earlier
    mask is renamed with the ending ``.old``. With ``skip_existing``, masks are kept if ``predictions.jsonl`` records
    that the same networks made them from the same images with the same options (and if their probabilities and
    regions exist, where these are requested); masks without a record are kept if they fit their image.

    The ``console`` shows the current case and window, and the fraction of all work that is done. Before a case, it
    shows the number of windows and the memory, for the first case and for each that takes more than those before it.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import open_images, read_image
        >>> from deconvseg.inference import Predictor, predict_cases
        >>> from deconvseg.runs import Run
        >>> predictor = Predictor([Run.open("RUN")])
        >>> cases, problems = open_images("SCANS")
        >>> done = predict_cases(predictor, cases[:2], Path("two"), load=lambda case: read_image(case.images))
        >>> [path.name for path in done.written]
        ['disc0.png', 'disc1.png']

    """
    if save_regions:
        check_regions(predictor.plan)
        if bids:
            raise InputError(
                "`save_regions`: a BIDS derivative has one mask of each image; omit `save_regions` or `bids`"
            )
    paths = mask_paths(predictor.plan, cases, output, bids, masks)
    refuse_replacing(cases, paths.values())
    result = Prediction(threshold=predictor.rule.threshold)
    with _explaining_interruption(paths.values(), output), ExitStack() as stack:
        # Several processes may write into one folder, such as the parts of a dataset; each mask belongs to one process.
        if cases:
            stack.enter_context(_hold_masks(output, [paths[case.name] for case in cases]))
        records, todo = _open_records(predictor, output), list(cases)
        wanted = Wanted(packed=save_probabilities, pictured=probabilities, regions=save_regions, measure=measure)
        if segmentation is not None and any(map(is_segmentation, paths.values())):
            wanted = replace(wanted, segmentation=segmentation)
            for text in segmentation.warnings:
                result.warn(text)
        if skip_existing:
            judged = partial(judge, predictor=predictor, records=records, load=load, wanted=wanted)
            todo = [case for case in cases if not _stands(paths[case.name], case, judged, result)]
        if wanted.on_disk:
            wanted = replace(wanted, folder=stack.enter_context(scratch_folder(output)))
        computing = Computing(stack.enter_context(reading_thread()), stack, predictor, load, console.say, result)
        # A finished mask is written even if the next case fails.
        thread = stack.enter_context(ThreadPoolExecutor(1))
        noting = partial(_noting, result, raise_problems=raise_problems)
        writing = Writing(thread, records, predictor, result, noting, doubt_limit)
        of_images = replace(wanted, segmentation=None)
        jobs = [
            Job(case, path, wanted if is_segmentation(path) else of_images, number, named=not masks.anonymise)
            for number, case in enumerate(todo)
            for path in (paths[case.name],)
        ]
        _process(jobs, computing, writing, stack.enter_context(console.track("predicting")))
        write_doubts(output)
    _summarise(result)
    return result


def _open_records(predictor: Predictor, output: Path) -> Records:
    """Return the records of the masks in a folder, in which its runs and labels are described."""
    labels = {part.written_as: part.name for part in predictor.plan.structures}
    folders = [{"folder": name_beside(folder, output)} for folder in predictor.folders]
    return Records(output, [{**run, **folder} for run, folder in zip(predictor.runs, folders, strict=True)], labels)


def _process(jobs: Sequence[Job], computing: Computing, writing: Writing, progress: Progress) -> None:
    """Compute and write the cases one after the other; errors of a case are noted by ``writing``."""
    for number, job in enumerate(jobs):
        tell = partial(_tell_part, progress, job.case.name, number, len(jobs))
        # Its image is read first, which may take a while.
        tell(0.0)
        with writing.noting(job):
            made = computing(job, jobs[number + 1 : number + 1 + MOST_CASES], tell)
            writing.finish()
            writing.start(job, made)
            del made
        # Also if the case failed or has no windows.
        tell(1.0)
    writing.finish()


def _summarise(result: Prediction) -> None:
    """Log how often the same warning was given, and how many masks are empty."""
    result.log_alike()
    if result.empty and len(result.written) > 1:
        masks, verb = number_of(len(result.written), "mask"), "is" if len(result.empty) == 1 else "are"
        result.warn(f"{len(result.empty)} of {masks} {verb} empty")


@contextmanager
def _explaining_interruption(masks: Collection[Path], output: Path) -> Iterator[None]:
    """Say at Ctrl-C how many masks exist."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        there = sum(path.is_file() for path in masks)
        raise InterruptionError(
            f"interrupted; {there} of {number_of(len(masks), 'mask')} are in {output}; "
            "continue with `skip_existing=True`"
        ) from interruption


def _hold_masks(output: Path, paths: Sequence[Path]) -> AbstractContextManager[None]:
    """Lock masks in a folder for this process, after removing leftovers of killed predictions."""
    folders = {output, *(path.parent for path in paths)}
    names = [path.relative_to(output).as_posix() for path in paths]
    return hold(output, names, alone=lambda: list(map(remove_unfinished, folders)))


def _stands(path: Path, case: Case, judged: Callable[[Path, Case], Verdict], result: Prediction) -> bool:
    """Return whether ``skip_existing`` keeps the mask of a case, and note it."""
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
        if verdict.doubt is not None:
            result.doubts[case.name] = verdict.doubt
    return verdict.stands


@contextmanager
def _noting(result: Prediction, job: Job, *, raise_problems: bool) -> Iterator[None]:
    """Record an error of one case as a problem of the result, and continue."""
    try:
        yield
    except (DeconvsegError, MemoryError, RuntimeError) as error:
        no_memory = is_out_of_memory(error)
        if not no_memory and not isinstance(error, DeconvsegError):
            raise
        earlier = retire(job.path)
        if raise_problems and not no_memory:
            if earlier is not None:
                result.remark(job.case.name, f"its earlier mask is now {earlier}")
            raise
        where = job.case.images[0]
        problem = (
            f"{where}: not enough memory for this image ({error}); other cases continue" if no_memory else str(error)
        )
        result.problems.append(problem if earlier is None else f"{problem}; its earlier mask is now {earlier}")


def _tell_part(progress: Progress, name: str, number: int, count: int, done: float, text: str | None = None, /) -> None:
    at_work = f"case {number + 1} of {count}: {name}"
    progress((number + done) / count, at_work if text is None else f"{at_work}, {text}")
