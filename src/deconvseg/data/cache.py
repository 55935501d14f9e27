"""Preprocessed cases on disk: written once, compressed in blocks, so that a patch costs the blocks that it touches."""

import itertools
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.dataset import Case, Dataset
from deconvseg.data.labels import LabelEncoding
from deconvseg.data.preprocessing import Normalisation, preprocess_image, preprocess_labels
from deconvseg.data.types import LabelMap
from deconvseg.data.workers import map_in_processes
from deconvseg.data.writing import make_folder, writing_error
from deconvseg.errors import DeconvsegError

# Part of every key: raise it when preprocessing or the files below change, and old entries are made again.
_FORMAT = 1
# At most this many voxels of each class are remembered as centres for foreground patches.
_CENTRES_PER_CLASS = 2000
# Where no patch is given, blocks fit one of this many voxels per axis.
_USUAL_PATCH = {2: 256, 3: 64}
# A patch is about this many blocks long: fewer read more than they need, more compress worse.
_BLOCKS_PER_PATCH, _BLOCKS_PER_CHUNK = 4, 4
# Processes take seconds to start; less work than this is done without them.
_WORTH_PROCESSES_SECONDS = 5.0
_RECORD = "entry.json"
_UNFINISHED = ".unfinished-"
# An unfinished entry this old was left by a process that was killed.
_ABANDONED_SECONDS = 86400


class StoredArray(Protocol):
    """An array in a file: an index reads, and decompresses, only the blocks that it touches."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""

    @property
    def ndim(self) -> int:
        """The number of its axes."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part; ``[...]`` reads everything."""


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case in its own folder of a cache.

    ``shape`` is S; ``classes`` has a pair (class id, number of its rows in ``centres``) for each class it has.
    """

    name: str
    folder: Path
    shape: tuple[int, ...]
    classes: tuple[tuple[int, int], ...]

    @property
    def image(self) -> StoredArray:
        """Pixels (C, *S) float32."""
        return _open(self.folder / "image.b2nd")

    @property
    def labels(self) -> StoredArray:
        """Class ids (*S)."""
        return _open(self.folder / "labels.b2nd")

    @property
    def centres(self) -> NDArray[np.int32]:
        """Voxels (N, D): a sample of each class's, in the order of ``classes``, memory-mapped read-only."""
        centres: NDArray[np.int32] = np.load(self.folder / "centres.npy", mmap_mode="r", allow_pickle=False)
        return centres


def prepare_cases(
    dataset: Dataset,
    folder: Path,
    *,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    encoding: LabelEncoding,
    patch_size: Sequence[int] | None = None,
    workers: int = 0,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> list[PreparedCase]:
    """Preprocess every case of the dataset into the cache ``folder`` and return them in the dataset's order.

    An entry's place follows from all that its content depends on: spacing, normalisations and labels, and the case's
    files with their sizes and times. One that is there and undamaged is kept, whoever made it; it is written beside
    its place and moved there, so a process may be killed at any time, and several may share a folder. ``patch_size``
    sizes the blocks and decides nothing else. Where that pays, ``workers`` processes do the work (0: none); an error
    or the death of one is a :class:`DeconvsegError` that names its case.
    """
    settings = {
        "format": _FORMAT,
        "spacing": [float(length) for length in spacing],
        "normalisations": [asdict(normalisation) for normalisation in normalisations],
        "encoding": asdict(encoding),
        "channels": [*dataset.channel_names, dataset.channels_last],
    }
    place = make_folder(folder / _digest(settings))
    _remove_abandoned(place)
    # The worker needs no other case, and sending a whole dataset with every item would cost more than the work.
    prepare = partial(
        _prepare,
        replace(dataset, cases=(), problems=()),
        place,
        spacing=tuple(spacing),
        normalisations=tuple(normalisations),
        encoding=encoding,
        patch_size=None if patch_size is None else tuple(patch_size),
    )
    return list(_spread(prepare, dataset.cases, workers, progress))


def _spread(
    prepare: Callable[[Case], PreparedCase],
    cases: Sequence[Case],
    workers: int,
    progress: Callable[[Sequence[Case]], Iterable[Case]],
) -> Iterator[PreparedCase]:
    """Prepare the first case here; it tells whether the others are worth the start of processes."""
    shown = iter(progress(cases))
    started = time.monotonic()
    for _ in itertools.islice(shown, 1):
        yield from map_in_processes(prepare, cases[:1], 0, _describe)
    seconds = (time.monotonic() - started) * (len(cases) - 1)
    workers = workers if seconds >= _WORTH_PROCESSES_SECONDS else 0
    for _, result in zip(shown, map_in_processes(prepare, cases[1:], workers, _describe), strict=True):
        yield result


def _describe(case: Case) -> str:
    return f"{case.images[0]}: preparing case {case.name}"


def _digest(tree: Any) -> str:
    return sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _identity(case: Case) -> str:
    files = [path.resolve() for path in (*case.images, case.label) if path is not None]
    return _digest([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files])


def _prepare(
    dataset: Dataset,
    place: Path,
    case: Case,
    *,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    encoding: LabelEncoding,
    patch_size: Sequence[int] | None,
) -> PreparedCase:
    folder = place / f"{case.name}-{_identity(case)}"
    known = _read_entry(case.name, folder)
    if known is not None:
        return known
    image, labels = dataset.load(case)
    if labels is None:
        labels = LabelMap(np.zeros(image.shape, np.uint8), image.geometry)
    ids = encoding.encode(labels.pixels, where=str(case.label))
    pixels = preprocess_image(image, spacing, normalisations).pixels
    ids = preprocess_labels(LabelMap(ids, labels.geometry), spacing).pixels
    rows = _centres(ids, case.name, encoding.ignore_id)
    classes = [[int(label), len(voxels)] for label, voxels in rows.items()]
    centres = np.concatenate([np.zeros((0, ids.ndim), np.int32), *rows.values()])
    blocks = _blocks(ids.shape, patch_size)
    files = {
        "image.b2nd": _compressed(pixels, (1, *blocks)),
        "labels.b2nd": _compressed(ids, blocks),
        "centres.npy": _npy(centres),
    }
    _write_entry(folder, files, {"shape": list(ids.shape), "classes": classes})
    made = _read_entry(case.name, folder)
    if made is None:
        raise DeconvsegError(f"{folder}: what was written there is not what is read back; check the disk")
    return made


def _write_entry(folder: Path, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Write a whole entry beside its place and move it there; one that another process has put there stays."""
    unfinished = folder.with_name(_UNFINISHED + token_hex(8))
    try:
        unfinished.mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        checks = {name: [len(content), zlib.crc32(content)] for name, content in files.items()}
        (unfinished / _RECORD).write_text(json.dumps({**record, "files": checks}), encoding="utf-8")
        if folder.exists() and _read_entry(folder.name, folder) is None:
            # Damaged: out of the way in one step, so that no reader meets half of it.
            folder.rename(unfinished / "damaged")
        if not folder.exists():
            unfinished.rename(folder)
    except OSError as error:
        if not (folder / _RECORD).is_file():
            raise writing_error(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(folder / "damaged", ignore_errors=True)


def _read_entry(name: str, folder: Path) -> PreparedCase | None:
    """Return the entry, or None where there is none, or where its files are not those that were written."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        for file, (size, check) in record["files"].items():
            path = folder / file
            if path.stat().st_size != size or zlib.crc32(path.read_bytes()) != check:
                return None
        classes = tuple((int(label), int(count)) for label, count in record["classes"])
        return PreparedCase(name, folder, tuple(int(n) for n in record["shape"]), classes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_abandoned(place: Path) -> None:
    for unfinished in place.glob(f"{_UNFINISHED}*"):
        try:
            age = time.time() - unfinished.stat().st_mtime
        except FileNotFoundError:  # its process has just finished it
            continue
        if age > _ABANDONED_SECONDS:
            shutil.rmtree(unfinished, ignore_errors=True)


def _blocks(shape: Sequence[int], patch_size: Sequence[int] | None) -> tuple[int, ...]:
    patch = patch_size or (_USUAL_PATCH[len(shape)],) * len(shape)
    return tuple(max(1, min(n, round(p / _BLOCKS_PER_PATCH))) for n, p in zip(shape, patch, strict=True))


def _compressed(array: NDArray[Any], blocks: Sequence[int]) -> bytes:
    """Return the array as a Blosc2 frame, in memory: a full disk is then told by the system, as what it is."""
    import blosc2

    chunks = [min(n, _BLOCKS_PER_CHUNK * block) for n, block in zip(array.shape, blocks, strict=True)]
    frame: bytes = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=list(blocks),
        # The fastest to decompress; zstandard is a tenth smaller and takes three times as long to read.
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1},
    ).to_cframe()
    return frame


def _open(path: Path) -> StoredArray:
    import blosc2

    try:
        # One thread: a patch is a few blocks, and the cores are the network's.
        array: StoredArray = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise DeconvsegError(f"{path}: cannot be read from the cache ({error}); start again with --resume") from error
    return array


def _npy(array: NDArray[Any]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _centres(ids: NDArray[np.integer], name: str, ignore_id: int | None) -> dict[int, NDArray[np.int32]]:
    """Return a sample of the voxels (N, D) of each class but the background; of that too, where some are ignored."""
    rng = np.random.default_rng([len(name), *name.encode()])
    rows = {}
    for label in np.unique(ids):
        # Where most voxels are ignored, a patch lying anywhere would often teach nothing: it needs judged ones.
        if label == ignore_id or (label == 0 and ignore_id is None):
            continue
        voxels = np.argwhere(ids == label)
        if len(voxels) > _CENTRES_PER_CLASS:
            voxels = voxels[rng.choice(len(voxels), _CENTRES_PER_CLASS, replace=False)]
        rows[int(label)] = voxels.astype(np.int32)
    return rows
