"""Cache of preprocessed cases on disk, compressed in blocks: reading a patch decompresses only its blocks."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.axes import CANONICAL, Axes
from deconvseg.data.cache_entries import PreparedCase, has_entry, read_entry, remove_abandoned, write_entry
from deconvseg.data.dataset import Case, Dataset
from deconvseg.data.formats.registry import is_known_everywhere
from deconvseg.data.labels.encoding import LabelEncoding
from deconvseg.data.normalisation import Normalisation
from deconvseg.data.preprocessing import Preprocessing
from deconvseg.data.recording import file_state
from deconvseg.data.resampling import LINEAR, Resampling
from deconvseg.data.stored_arrays import compress, to_npy
from deconvseg.data.types import LabelMap
from deconvseg.errors import DeconvsegError
from deconvseg.progress import SILENT, Console, each, takes_console
from deconvseg.system import make_folder, map_if_slow, naming

_log = logging.getLogger("deconvseg")

# Part of every key. Increase it when preprocessing or the files below change, so that old entries are made again.
_FORMAT = 4
# At most this many voxels of each class are stored as centres for foreground patches.
_CENTRES_PER_CLASS = 2000
# Voxels per axis of the patch that blocks are sized for if no patch size is given.
_USUAL_PATCH = {2: 256, 3: 64}
# Blocks per patch along each axis: with fewer, patches read more than they need; more compress worse.
_BLOCKS_PER_PATCH = 4
# Most bytes of the case name in the name of its folder; file systems allow 255 in all.
_LONGEST_NAME = 180


@takes_console
def prepare_cases(
    dataset: Dataset,
    folder: Path,
    *,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    encoding: LabelEncoding,
    resize: Sequence[int] | None = None,
    crop_margin: int | None = None,
    normalise_first: bool = False,
    axes: Axes = CANONICAL,
    resampling: Resampling = LINEAR,
    patch_size: Sequence[int] | None = None,
    workers: int = 0,
    text: str = "preparing cases",
    console: Console = SILENT,
) -> list[PreparedCase]:
    """Preprocess every case of the dataset into the cache ``folder`` and return them in the dataset's order.

    ``spacing``, ``normalisations``, ``resize``, ``crop_margin``, ``normalise_first``, ``axes`` and ``resampling`` are
    those of :class:`~deconvseg.data.Preprocessing`. The path of an entry is a hash of everything that its content
    depends on: these, the labels, and the case's files with their sizes, times and inodes. Existing undamaged entries
    are kept. Entries are written to a temporary folder and then moved, so a process may be killed at any time, and
    several processes may share a cache.
    ``patch_size`` only sets the size of the blocks. With ``workers`` above 0, that many processes do the work if it
    takes long enough. The ``console`` shows the progress under ``text``.

    Raises :class:`DeconvsegError`, naming the case, if a case cannot be prepared or the process that prepares it ends
    unexpectedly.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import LabelEncoding, Normalisation, open_dataset, prepare_cases
        >>> cases = prepare_cases(
        ...     open_dataset("DATASET"),
        ...     Path("cache"),
        ...     spacing=(1.0, 1.0),
        ...     normalisations=[Normalisation()],
        ...     encoding=LabelEncoding((0, 255), ("background", "disc")),
        ... )
        >>> cases[0].name, cases[0].shape
        ('disc0', (40, 48))

    """
    size = None if resize is None else tuple(resize)
    preprocessing = Preprocessing(
        tuple(spacing), tuple(normalisations), size, crop_margin, normalise_first, axes, resampling
    )
    settings = {
        "format": _FORMAT,
        **preprocessing.key,
        "encoding": asdict(encoding),
        "channels": [*dataset.channel_names, dataset.channels_last],
        **({"masks": [dataset.merged_labels, dataset.mask_colours]} if _changes_masks(dataset) else {}),
    }
    place = make_folder(folder / _digest(settings))
    remove_abandoned(place)
    # Workers get the dataset without its cases: sending them all with every item would cost more than the work.
    prepare = partial(
        _prepare,
        replace(dataset, cases=(), problems=()),
        place,
        preprocessing=preprocessing,
        encoding=encoding,
        patch_size=None if patch_size is None else tuple(patch_size),
    )
    new = [case for case in dataset.cases if _is_new(place, case)]
    # Other processes do not know a reader that a script has registered. A case in the cache takes a fraction of the
    # time, so it predicts the others only if all are in the cache.
    results = map_if_slow(prepare, dataset.cases, workers if is_known_everywhere() else 0, _describe, new)
    return [
        result for _, result in zip(each(dataset.cases, text, console, lambda case: case.name), results, strict=True)
    ]


def _describe(case: Case) -> str:
    return f"{case.images[0]}: preparing case {case.name}"


def _digest(tree: Any) -> str:
    return sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _changes_masks(dataset: Dataset) -> bool:
    return bool(dataset.merged_labels or dataset.mask_colours)


def _is_new(place: Path, case: Case) -> bool:
    with naming(_describe(case)):
        return not has_entry(_folder(place, case))


def _folder(place: Path, case: Case) -> Path:
    files = [Path(os.path.realpath(path)) for path in case.files]
    parts = [[[part.path.name, part.value] for part in case.masks]] if case.masks else []
    identity = _digest([case.name, *([str(path), *file_state(path)] for path in files), *parts])
    # A long name is cut at a whole character; the hash covers the full name.
    name = case.name.encode(errors="surrogatepass")[:_LONGEST_NAME].decode(errors="ignore")
    return place / f"{name}-{identity}"


def _prepare(
    dataset: Dataset,
    place: Path,
    case: Case,
    *,
    preprocessing: Preprocessing,
    encoding: LabelEncoding,
    patch_size: Sequence[int] | None,
) -> PreparedCase:
    folder = _folder(place, case)
    known = read_entry(case.name, folder)
    if known is not None:
        return known
    image, labels = dataset.load(case)
    if labels is None:
        labels = LabelMap(np.zeros(image.shape, np.uint8), image.geometry)
    ids = encoding.encode(labels.pixels, where=str(case.label), white=labels.white)
    box = preprocessing.box(image)
    pixels = preprocessing.image(image, box).pixels
    ids = preprocessing.labels(LabelMap(ids, labels.geometry), box).pixels
    rows = _centres(ids, case.name, encoding.ignore_id)
    classes = [[int(label), len(voxels)] for label, voxels in rows.items()]
    centres = np.concatenate([np.zeros((0, ids.ndim), np.int32), *rows.values()])
    blocks = _blocks(ids.shape, patch_size)
    files = {
        "image.b2nd": compress(pixels, (1, *blocks)),
        "labels.b2nd": compress(ids, blocks),
        "centres.npy": to_npy(centres),
    }
    write_entry(folder, files, {"shape": list(ids.shape), "classes": classes})
    made = read_entry(case.name, folder)
    if made is None:
        raise DeconvsegError(f"{folder}: what was written there is not what is read back; check the disk")
    return made


def _blocks(shape: Sequence[int], patch_size: Sequence[int] | None) -> tuple[int, ...]:
    patch = patch_size or (_USUAL_PATCH[len(shape)],) * len(shape)
    return tuple(max(1, min(n, round(p / _BLOCKS_PER_PATCH))) for n, p in zip(shape, patch, strict=True))


def _centres(ids: NDArray[np.integer], name: str, ignore_id: int | None) -> dict[int, NDArray[np.int32]]:
    """Return sampled voxels (N, D) of each foreground class, and of the background if there are ignored voxels."""
    rng = np.random.default_rng([len(name), *name.encode()])
    rows = {}
    # If most voxels are ignored, patches at uniform positions would often contain no annotated voxel.
    for label in range(1 if ignore_id is None else 0, int(ids.max()) + 1):
        # One flat index per voxel saves memory: a class may fill most of a large volume.
        if label == ignore_id or not len(voxels := np.flatnonzero(ids == label)):
            continue
        if len(voxels) > _CENTRES_PER_CLASS:
            voxels = voxels[rng.choice(len(voxels), _CENTRES_PER_CLASS, replace=False)]
        rows[label] = np.stack(np.unravel_index(voxels, ids.shape), axis=1).astype(np.int32)
    return rows
