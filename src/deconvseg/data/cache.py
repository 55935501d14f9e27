"""Preprocessed cases on disk: written once, then memory-mapped, so that a patch costs only its own bytes."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.dataset import Case, Dataset
from deconvseg.data.labels import LabelEncoding
from deconvseg.data.preprocessing import Normalisation, preprocess_image, preprocess_labels
from deconvseg.data.types import LabelMap
from deconvseg.data.writing import atomic_write

# At most this many voxels of each class are remembered as centres for foreground patches.
_CENTRES_PER_CLASS = 2000


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case: pixels (C, *S) float32, class ids (*S), and voxel positions of each class it has."""

    name: str
    folder: Path

    @property
    def image(self) -> NDArray[np.float32]:
        """Pixels (C, *S), memory-mapped read-only."""
        return self._open("image")

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class ids (*S), memory-mapped read-only."""
        return self._open("labels")

    @property
    def centres(self) -> NDArray[np.int32]:
        """Rows (class id, *voxel): a sample of each class's voxels, memory-mapped read-only."""
        return self._open("centres")

    def _open(self, kind: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / f"{self.name}.{kind}.npy", mmap_mode="r", allow_pickle=False)
        return array


def prepare_cases(
    dataset: Dataset,
    folder: Path,
    *,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    encoding: LabelEncoding,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> list[PreparedCase]:
    """Preprocess every case of the dataset into the folder and return them; a case that is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for case in progress(dataset.cases):
        done = folder / f"{case.name}.json"
        if not done.exists():
            _prepare(dataset, case, folder, spacing, normalisations, encoding)
            with atomic_write(done) as path:
                path.write_text(json.dumps({"case": case.name}), encoding="utf-8")
        prepared.append(PreparedCase(case.name, folder))
    return prepared


def _prepare(
    dataset: Dataset,
    case: Case,
    folder: Path,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    encoding: LabelEncoding,
) -> None:
    image, labels = dataset.load(case)
    if labels is None:
        labels = LabelMap(np.zeros(image.shape, np.uint8), image.geometry)
    ids = encoding.encode(labels.pixels, where=str(case.label))
    image = preprocess_image(image, spacing, normalisations)
    ids = preprocess_labels(LabelMap(ids, labels.geometry), spacing).pixels
    for kind, array in (("image", image.pixels), ("labels", ids), ("centres", _centres(ids, case.name))):
        with atomic_write(folder / f"{case.name}.{kind}.npy") as path, path.open("wb") as file:
            _write_npy(file, np.ascontiguousarray(array))


def _write_npy(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write as ``np.save`` does, but through the file: a full disk is then told as what it is."""
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.reshape(-1).view(np.uint8).data)


def _centres(ids: NDArray[np.integer], name: str) -> NDArray[np.int32]:
    rng = np.random.default_rng([len(name), *name.encode()])
    rows = []
    for label in np.unique(ids):
        if label == 0:
            continue
        voxels = np.argwhere(ids == label)
        if len(voxels) > _CENTRES_PER_CLASS:
            voxels = voxels[rng.choice(len(voxels), _CENTRES_PER_CLASS, replace=False)]
        rows.append(np.column_stack([np.full(len(voxels), label), voxels]))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 1 + ids.ndim), np.int32)
