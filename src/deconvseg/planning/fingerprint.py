"""Fingerprint of a dataset: statistics of its training and validation cases."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from deconvseg.data import Case, Dataset, common_labels
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.planning.case_facts import CaseFacts, measure_case, measuring_bytes, refuse_instances
from deconvseg.planning.fingerprint_cache import fingerprint_key, read_cached, write_cached
from deconvseg.planning.symmetry import asymmetry
from deconvseg.progress import SILENT, Console, each, takes_console
from deconvseg.system import available_memory, usable_cores

Count = Annotated[int, Field(ge=0)]
# Threads scale because decompression and NumPy release the GIL, but each thread holds a whole case in memory.
_MOST_WORKERS = 4
_READING = "reading the training cases"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(_Part):
    """The 5th percentile, the median and the 95th percentile of a quantity."""

    low: float
    median: float
    high: float


class ChannelStatistics(_Part):
    """Statistics of one channel: fraction of exact zeros, range, and mean, spread and percentiles of the foreground."""

    zero_fraction: float
    minimum: float
    maximum: float
    mean: float
    std: float
    percentile_0_5: float
    percentile_99_5: float


class ClassStatistics(_Part):
    """Statistics of one mask value: the number of cases and voxels with it, and its amount in those cases.

    ``share`` is its fraction of a case's voxels, ``volume`` is in mm³ (2D: mm²; a pixel of unknown size counts as 1 mm
    wide). ``components`` is the number of connected components in all cases; ``component_volume`` and
    ``component_voxels`` are the spreads of their sizes. Components of the background are not counted.
    """

    value: int
    cases: Count
    voxels: Count
    share: Spread
    volume: Spread
    components: Count
    component_volume: Spread | None
    component_voxels: Spread | None


class Fingerprint(_Part):
    """Shapes (canonical axes), spacings in mm, orientations of the files, and statistics of classes and channels.

    ``orientations`` counts the axis codes, such as ``{"RAS": 10}``; ``expanded_grey`` is the number of grey images that
    were expanded to RGB; ``case_values`` are the label values of each case, in the order of the dataset; ``asymmetry``
    is, for each axis, the share of cases that are nearer to the others than their mirror images
    (:func:`~deconvseg.planning.symmetry.asymmetry`); ``foreground_outside`` is the number of cases with foreground
    outside the bounding box of all voxels that are nonzero in any channel; ``looks`` are the features of each case
    (:func:`~deconvseg.planning.appearance.look_at`). Convert to and from JSON with pydantic: ``model_dump_json``,
    ``model_validate_json``.
    """

    spatial_dims: int
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    orientations: dict[str, Count] = {}
    classes: tuple[ClassStatistics, ...]
    channels: tuple[ChannelStatistics, ...]
    expanded_grey: Count = 0
    asymmetry: tuple[float, ...] = ()
    foreground_outside: Count = 0
    case_values: tuple[tuple[int, ...], ...] = ()
    looks: tuple[tuple[float, ...], ...] = ()

    @property
    def label_voxels(self) -> dict[int, int]:
        """Number of voxels of every mask value."""
        return {entry.value: entry.voxels for entry in self.classes}

    @property
    def median_spacing(self) -> tuple[float, ...]:
        """Per-axis median spacing in mm."""
        return tuple(round(float(v), 6) for v in np.median(self.spacings, axis=0))

    def shapes_at(self, spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
        """Return the shape of every case after resampling to this spacing."""
        sizes = np.array(self.shapes) * np.array(self.spacings) / np.array(spacing)
        return tuple(tuple(max(1, int(n)) for n in row) for row in np.round(sizes))

    def median_shape(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the median shape, per axis, after resampling all cases to this spacing."""
        sizes = np.array(self.shapes) * np.array(self.spacings) / np.array(spacing)
        return tuple(max(1, int(v)) for v in np.round(np.median(sizes, axis=0)))


@takes_console
def take_fingerprint(
    dataset: Dataset,
    *,
    workers: int | None = None,
    memory: int | None = None,
    cache: Path | None = None,
    console: Console = SILENT,
) -> Fingerprint:
    """Read every case of the dataset once, with ``workers`` threads (0: in the calling thread).

    Fewer threads are used if ``memory`` bytes (by default the free memory) do not hold one largest case per thread. The
    result is stored in a ``cache`` folder and reused as long as the files (name, size and time) and the version of this
    package do not change. Raises :class:`InputError` if a case is broken or masks look like instance maps, and
    :class:`DeconvsegError`, naming the case, if reading fails for another reason.

    Example:
        >>> from deconvseg.data import open_dataset
        >>> from deconvseg.planning import take_fingerprint
        >>> found = take_fingerprint(open_dataset("VOLUMES"), workers=0)
        >>> found.spatial_dims, found.shapes[0], found.spacings[0]
        (3, (24, 20, 12), (1.0, 1.0, 2.0))

    """
    if not dataset.cases:
        raise InputError(
            f"{dataset.root}: no training cases; check the dataset with 'deconvseg data check' and the splits"
        )
    # In a fixed order, so that all folds of a cross-validation use the same cached fingerprint.
    dataset = replace(dataset, cases=tuple(sorted(dataset.cases, key=lambda case: case.name)))
    key = None if cache is None else fingerprint_key(dataset)
    if cache is not None and key is not None:
        known = read_cached(Fingerprint, cache, key)
        if known is not None:
            return known
    fingerprint = _merge(dataset, _measure(dataset, workers, memory, console))
    if cache is not None and key is not None:
        write_cached(fingerprint, cache, key)
    return fingerprint


def _measure(
    dataset: Dataset,
    workers: int | None,
    memory: int | None,
    console: Console,
) -> Iterator[tuple[Case, CaseFacts]]:
    if workers is None:
        workers = min(_MOST_WORKERS, usable_cores())
    if workers == 0:
        for case in each(dataset.cases, _READING, console, _name):
            yield case, _measure_named(dataset, case)
        return
    # The case with the largest files is measured first and alone: its memory limits the number of threads.
    largest = max(dataset.cases, key=_file_bytes)
    first: CaseFacts | None = None
    pool: ThreadPoolExecutor | None = None
    futures: dict[str, Future[CaseFacts]] = {}
    try:
        for case in each(dataset.cases, _READING, console, _name):
            if first is None or pool is None:
                first = _measure_named(dataset, largest)
                room = available_memory() if memory is None else memory
                threads = max(1, min(workers, room // measuring_bytes(first)))
                pool = ThreadPoolExecutor(threads, thread_name_prefix="fingerprint")
                others = (case for case in dataset.cases if case is not largest)
                futures = {case.name: pool.submit(_measure_named, dataset, case) for case in others}
            yield case, first if case is largest else futures.pop(case.name).result()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _name(case: Case) -> str:
    return case.name


def _file_bytes(case: Case) -> int:
    return sum(path.stat().st_size for path in case.images if path.is_file())


def _measure_named(dataset: Dataset, case: Case) -> CaseFacts:
    """Measure a case; every error names it."""
    try:
        return measure_case(dataset, case)
    except DeconvsegError:
        raise
    except MemoryError as error:
        raise DeconvsegError(
            f"case {case.name}: not enough memory to read {case.images[0]}; try `workers=0`"
        ) from error
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise DeconvsegError(f"case {case.name}: {type(error).__name__}: {error}; look at {case.images[0]}") from error


def _merge(dataset: Dataset, measured: Iterable[tuple[Case, CaseFacts]]) -> Fingerprint:
    facts: list[CaseFacts] = []
    values: set[int] = set()
    orientations: dict[str, int] = {}
    for case, found in measured:
        if facts and len(facts[0].shape) != len(found.shape):
            raise InputError(
                f"{case.images[0]}: is {len(found.shape)}D among {len(facts[0].shape)}D images; "
                "split the dataset in two"
            )
        facts.append(found)
        values |= found.classes.keys()
        if dataset.label_names is None:
            refuse_instances(len(values), case)
        if found.orientation:
            orientations[found.orientation] = orientations.get(found.orientation, 0) + 1
    common = common_labels(
        dataset, {case.name: found.classes for case, found in zip(dataset.cases, facts, strict=True)}
    )
    facts = [replace(found, classes={common[v]: one for v, one in found.classes.items()}) for found in facts]
    values = {common[value] for value in values}
    return Fingerprint(
        spatial_dims=len(facts[0].shape),
        shapes=tuple(found.shape for found in facts),
        spacings=tuple(found.spacing for found in facts),
        orientations=orientations,
        classes=tuple(_class_statistics(value, facts) for value in sorted(values)),
        channels=tuple(_channel_statistics(index, facts) for index in range(len(facts[0].intensities))),
        expanded_grey=sum(found.expanded_grey for found in facts),
        asymmetry=asymmetry([_occupancies(found) for found in facts]),
        foreground_outside=sum(found.foreground_outside > 0 for found in facts),
        case_values=tuple(tuple(found.classes) for found in facts),
        looks=tuple(found.look for found in facts),
    )


def _occupancies(facts: CaseFacts) -> dict[int, NDArray[np.float32]]:
    return {value: one.occupancy for value, one in facts.classes.items() if one.occupancy is not None}


def _class_statistics(value: int, facts: Sequence[CaseFacts]) -> ClassStatistics:
    having = [found for found in facts if value in found.classes]
    of_class = [found.classes[value] for found in having]
    millimetres = [float(np.prod(found.spacing)) for found in having]
    sizes = [one.component_voxels for one in of_class]
    volumes = [size * unit for size, unit in zip(sizes, millimetres, strict=True)]
    return ClassStatistics(
        value=value,
        cases=len(having),
        voxels=sum(one.voxels for one in of_class),
        share=_spread([one.voxels / np.prod(found.shape) for one, found in zip(of_class, having, strict=True)]),
        volume=_spread([one.voxels * unit for one, unit in zip(of_class, millimetres, strict=True)]),
        components=sum(one.components for one in of_class),
        component_volume=_spread(np.concatenate(volumes)) if value else None,
        component_voxels=_spread(np.concatenate(sizes)) if value else None,
    )


def _channel_statistics(index: int, facts: Sequence[CaseFacts]) -> ChannelStatistics:
    values = np.concatenate([found.intensities[index] for found in facts])
    # Without foreground planning fails later, with an error about the labels.
    values = values if values.size else np.zeros(1, np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    return ChannelStatistics(
        zero_fraction=float(np.mean([found.zero_fractions[index] for found in facts])),
        minimum=float(min(found.extremes[index, 0] for found in facts)),
        maximum=float(max(found.extremes[index, 1] for found in facts)),
        mean=float(values.mean()),
        std=float(values.std()),
        percentile_0_5=float(low),
        percentile_99_5=float(high),
    )


def _spread(values: Sequence[float] | NDArray[Any]) -> Spread:
    low, median, high = np.percentile(values, (5, 50, 95))
    # Six digits are enough for a plan.
    return Spread(low=float(f"{low:.6g}"), median=float(f"{median:.6g}"), high=float(f"{high:.6g}"))
