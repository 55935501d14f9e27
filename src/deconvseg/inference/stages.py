"""The three stages of a case, each in a thread: reading and preparing, computing, writing."""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data import Case, Image, LabelMap, read_header, write_label_map
from deconvseg.errors import DeconvsegError
from deconvseg.inference.doubting import CaseDoubt, Doubt
from deconvseg.inference.keeping import maps_path, retire_maps, retire_regions
from deconvseg.inference.map_files import write_maps
from deconvseg.inference.masks import EMPTY
from deconvseg.inference.placing import segments_of
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import FileState, Prediction, Record, Records, states_of
from deconvseg.inference.region_masks import write_regions
from deconvseg.inference.scratch import disk_array
from deconvseg.inference.wanting import Wanted
from deconvseg.planning import Plan
from deconvseg.progress import Progress, show_nothing
from deconvseg.runs import file_sha256
from deconvseg.system import atomic_write

_log = logging.getLogger("deconvseg")

# The most bytes for the levels of a case; larger cases are not measured.
MOST_LEVELS = 2**31


@dataclass(frozen=True)
class Made:
    """The mask and the doubt of a case, and the files of its probabilities, levels and regions, if requested."""

    mask: LabelMap
    doubt: Doubt
    probabilities: Path | None = None
    levels: Path | None = None
    regions: Path | None = None


@dataclass(frozen=True)
class Job:
    """The processing of one case, whose ``number`` names its files in the scratch folder.

    Unless it is ``named``, the record of its mask does not hold the names of its files.
    """

    case: Case
    path: Path
    wanted: Wanted = field(default_factory=Wanted)
    number: int = 0
    named: bool = True

    @cached_property
    def states(self) -> tuple[FileState, ...]:
        """The state of the image's files at the first access of this attribute."""
        states = states_of(self.case)
        return states if self.named else tuple(replace(state, name="") for state in states)

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
        *,
        note: Callable[[str], None],
        tell: Progress = show_nothing,
    ) -> Made:
        """Compute the mask and its doubt, and the probabilities, levels and regions into their files."""
        doubts: list[Doubt] = []
        with ExitStack() as failing:
            maps, levels, regions = self._arrays(predictor.plan, image.shape, failing)
            mask = predictor.segment(
                image,
                probabilities=maps,
                levels=levels,
                regions=regions,
                doubt=doubts.append,
                tell=tell,
                note=note,
            )
            failing.pop_all()
        files = (None if array is None else Path(str(array.filename)) for array in (maps, levels, regions))
        return Made(mask, doubts[0], *files)

    def write(self, made: Made, records: Records, predictor: Predictor, doubt: CaseDoubt, warnings: list[str]) -> None:
        """Write the probabilities, the regions, the mask and its record, in this order, and measure the levels."""
        wanted = self.wanted
        try:
            if made.probabilities is not None and wanted.packed:
                with (
                    atomic_write(maps_path(self.path)) as temporary,
                    zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
                ):
                    archive.write(made.probabilities, "probabilities.npy")
            if made.probabilities is not None and wanted.pictured:
                maps = np.load(made.probabilities, mmap_mode="r")
                write_maps(maps, made.mask.geometry, self.path, predictor.plan, like=self.case.images[0])
            if made.regions is not None and wanted.regions:
                regions = np.load(made.regions, mmap_mode="r")
                write_regions(regions, made.mask.geometry, self.path, predictor.plan, like=self.case.images[0])
            if made.levels is not None and wanted.measure is not None:
                wanted.measure(self.case, np.load(made.levels, mmap_mode="r"), made.mask)
            if wanted.segmentation is not None:
                file = {"regions": made.regions, "probabilities": made.probabilities}.get(wanted.segmentation.needs)
                maps = None if file is None else np.load(file, mmap_mode="r")
                wanted.segmentation.write(made.mask, maps, self.case, self.path)
        finally:
            for file in (made.probabilities, made.levels, made.regions):
                if file is not None:
                    file.unlink()
        # The mask is written last: with `skip_existing`, a case is finished when its mask exists.
        if wanted.segmentation is None:
            write_label_map(made.mask, self.path, like=self.case.images[0], segments=segments_of(predictor.plan))
        record = Record(
            *(records.name_of(self.path), file_sha256(self.path), wanted.origin(predictor.identity), self.states),
            *(wanted.probabilities, tuple(warnings)),
            threshold=predictor.rule.threshold,
            doubt=doubt,
            regions=wanted.regions,
            precision=predictor.precision,
        )
        records.add(record)

    def _arrays(
        self, plan: Plan, shape: tuple[int, ...], failing: ExitStack
    ) -> tuple[
        np.memmap[Any, np.dtype[np.float32]] | None,
        np.memmap[Any, np.dtype[np.uint8]] | None,
        np.memmap[Any, np.dtype[np.uint8]] | None,
    ]:
        """Create the arrays of the probabilities, the levels and the regions on disk, if requested."""
        wanted, maps, levels, regions = self.wanted, None, None, None
        if wanted.folder is not None and wanted.maps:
            file = wanted.folder / f"{self.number}.npy"
            failing.callback(file.unlink, missing_ok=True)
            maps = disk_array(file, (plan.outputs, *shape))
        structures = len(plan.output_names)
        if wanted.folder is not None and wanted.region_masks:
            file = wanted.folder / f"{self.number}-regions.npy"
            failing.callback(file.unlink, missing_ok=True)
            regions = disk_array(file, (structures, *shape), np.uint8, "the regions of its mask")
        if wanted.folder is not None and wanted.measure is not None and structures * math.prod(shape) <= MOST_LEVELS:
            file = wanted.folder / f"{self.number}-levels.npy"
            failing.callback(file.unlink, missing_ok=True)
            try:
                levels = disk_array(file, (structures, *shape), np.uint8, "the levels of its voxels")
            except DeconvsegError as error:
                # Levels are optional: without space for them, the mask is still written.
                file.unlink(missing_ok=True)
                _log.warning("%s: its operating points are not measured: %s", self.case.name, error)
        return maps, levels, regions


@dataclass
class Writing:
    """Writes masks in ``thread``, one at a time; ``noting`` records the errors of a case."""

    thread: ThreadPoolExecutor
    records: Records
    predictor: Predictor
    result: Prediction
    noting: Callable[[Job], AbstractContextManager[None]]
    doubt_limit: float | None = None
    at_work: tuple[Job, Future[None], CaseDoubt] | None = None

    def start(self, job: Job, made: Made) -> None:
        """Start writing a mask."""
        doubt = CaseDoubt.judge(made.doubt, self.doubt_limit)
        remarks = list(self.result.remarks.get(job.case.name, ()))
        if moved := retire_maps(job.path, self.predictor.plan, self.records, job.wanted):
            self.result.remark(job.case.name, f"the probabilities of its earlier mask are now {moved}")
        if moved := retire_regions(job.path, self.predictor.plan, job.wanted):
            self.result.remark(job.case.name, f"the regions of its earlier mask are now {moved}")
        self.at_work = job, self.thread.submit(job.write, made, self.records, self.predictor, doubt, remarks), doubt

    def finish(self) -> None:
        """Wait until the current mask is written, and record it."""
        if self.at_work is None:
            return
        (job, future, doubt), self.at_work = self.at_work, None
        with self.noting(job):
            future.result()
            self.result.doubts[job.case.name] = doubt
            self.result.written.append(job.path)
            if EMPTY in self.result.remarks.get(job.case.name, ()):
                self.result.empty.append(job.path)
