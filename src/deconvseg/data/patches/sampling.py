"""Random training patches, each determined by (seed, epoch, sample)."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler, get_worker_info

from deconvseg.data.cache_entries import PreparedCase
from deconvseg.data.patches.augmentation import Augment, Change, change_intensities
from deconvseg.data.patches.transforms import resample
from deconvseg.data.stored_arrays import StoredArray
from deconvseg.system import naming


class Sample(NamedTuple):
    """The data of one patch: the needed part of a case, image (C, *R) and labels (*R), and the changes to apply.

    Without resampling R is the patch size. With resampling R is the bounding box of the rotated patch in the case, and
    ``centre`` is the position of the patch's centre in that box.
    """

    image: Tensor
    labels: Tensor
    centre: tuple[float, ...]
    change: Change
    case: str


class PatchDataset(TorchDataset[Sample]):
    """Samples of prepared cases; a sample depends only on its index (epoch, sample) and the seed.

    A fraction ``foreground`` of the samples, in each batch to within one sample, is centred on a voxel of a randomly
    drawn class. The others have uniform positions or, if the dataset has ignored voxels, are centred on an annotated
    background voxel. A volume smaller than the patch is padded on both sides: pixels with zero (the mean, or the
    background, after normalisation), labels with background. :func:`finish` turns samples into patches, on the device
    of the samples.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import LabelEncoding, Normalisation, PatchDataset, finish, open_dataset, prepare_cases
        >>> encoding = LabelEncoding((0, 255), ("background", "disc"))
        >>> settings = {"spacing": (1.0, 1.0), "normalisations": [Normalisation()], "encoding": encoding}
        >>> cases = prepare_cases(open_dataset("DATASET"), Path("cache"), **settings)
        >>> patches = PatchDataset(cases, (32, 32), samples_per_epoch=4, seed=0, foreground=0.5)
        >>> batch = finish([patches[0, number] for number in range(4)], (32, 32))
        >>> batch["image"].shape, batch["labels"].shape
        (torch.Size([4, 1, 32, 32]), torch.Size([4, 32, 32]))

    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch_size: Sequence[int],
        samples_per_epoch: int,
        *,
        seed: int,
        foreground: float = 0.0,
        augment: Augment | None = None,
    ) -> None:
        self.cases = list(cases)
        self.patch_size = tuple(patch_size)
        self.samples_per_epoch = samples_per_epoch
        self.seed = seed
        self.foreground = foreground
        self.augment = augment
        # One row per worker process (id, epoch, sample), in shared memory: it remains readable after a worker is
        # killed.
        self.reading: Tensor | None = None

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        epoch, sample = index
        case = self.case(epoch, sample)
        worker = get_worker_info()
        if worker is not None and self.reading is not None:
            self.reading[worker.id] = torch.tensor([os.getpid(), epoch, sample])
        with naming(f"case {case.name}"):
            return self._read(case, epoch, sample)

    def case(self, epoch: int, sample: int) -> PreparedCase:
        """Return the case of a sample: each pass over all cases has a new order, so all cases occur equally often."""
        turn, place = divmod(epoch * self.samples_per_epoch + sample, len(self.cases))
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(self.cases))
        return self.cases[int(order[place])]

    def _read(self, case: PreparedCase, epoch: int, sample: int) -> Sample:
        rng = np.random.default_rng([self.seed, 1, epoch, sample])
        image, labels = case.image, case.labels
        start = self._start(rng, case, epoch * self.samples_per_epoch + sample)
        change = Change() if self.augment is None else self.augment.draw(rng, image.shape[0])
        if change.matrix is None:
            centre: tuple[float, ...] = ()
            pixels, ids = crop(image, start, self.patch_size), crop(labels, start, self.patch_size)
        else:
            pixels, ids, centre = self._region(case, change, start)
        return Sample(torch.from_numpy(pixels), torch.from_numpy(ids), centre, change, case.name)

    def _region(
        self, case: PreparedCase, change: Change, start: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[Any], tuple[float, ...]]:
        """Return the pixels and labels that a turned patch covers, and the position of the patch's centre in them."""
        assert change.matrix is not None, "the patch is turned or scaled"
        image, labels = case.image, case.labels
        if change.padding == "zeros":
            box, centre = _covered(change.matrix, start, self.patch_size, [(0, n) for n in case.shape])
            inside = tuple(slice(part.start, part.stop) for part in box)
            whole = (slice(None), *inside)
            return image[whole], labels[inside], centre
        # As without turning, a volume smaller than the patch is padded with zeros first.
        padded = [(min(0, s), max(n, s + p)) for s, p, n in zip(start, self.patch_size, case.shape, strict=True)]
        box, centre = _covered(change.matrix, start, self.patch_size, padded)
        corner, size = [part.start for part in box], [len(part) for part in box]
        return crop(image, corner, size), crop(labels, corner, size), centre

    def _start(self, rng: np.random.Generator, case: PreparedCase, position: int) -> tuple[int, ...]:
        slack = [n - p for n, p in zip(case.shape, self.patch_size, strict=True)]
        share = self.foreground
        foreground = math.floor((position + 1) * share) != math.floor(position * share)
        # Background is one of the classes only if the dataset has ignored voxels.
        background = [place for place, (label, _) in enumerate(case.classes) if label == 0]
        places = [place for place in range(len(case.classes)) if (place not in background) == foreground] or background
        if not places:
            return tuple(int(rng.integers(0, s + 1)) if s > 0 else s // 2 for s in slack)
        counts = [count for _, count in case.classes]
        chosen = places[int(rng.integers(len(places)))]
        centre = case.centres[sum(counts[:chosen]) + int(rng.integers(counts[chosen]))]
        return tuple(
            int(np.clip(c - p // 2, 0, s)) if s > 0 else s // 2
            for c, p, s in zip(centre, self.patch_size, slack, strict=True)
        )


def finish(samples: Sequence[Sample], patch_size: Sequence[int]) -> dict[str, Any]:
    """Apply the changes of samples and return them as a batch on their device.

    The batch is ``{"image": (B, C, *patch) float32, "labels": (B, *patch) int64, "case": names}``. A patch does not
    depend on the other patches of its batch.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import LabelEncoding, Normalisation, PatchDataset, finish, open_dataset, prepare_cases
        >>> encoding = LabelEncoding((0, 255), ("background", "disc"))
        >>> settings = {"spacing": (1.0, 1.0), "normalisations": [Normalisation()], "encoding": encoding}
        >>> cases = prepare_cases(open_dataset("DATASET"), Path("cache"), **settings)
        >>> patches = PatchDataset(cases, (16, 16), samples_per_epoch=2, seed=0)
        >>> batch = finish([patches[0, 0], patches[0, 1]], (16, 16))
        >>> batch["image"].shape, len(batch["case"])
        (torch.Size([2, 1, 16, 16]), 2)

    """
    cases = [sample.case for sample in samples]
    with naming(f"patches of {', '.join(cases)}"):
        image, labels = _changed(samples, patch_size)
    return {"image": image, "labels": labels, "case": cases}


def _changed(samples: Sequence[Sample], patch_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    images, labels = [], []
    for sample in samples:
        pixels, ids, change = sample.image, sample.labels, sample.change
        if change.matrix is not None:
            pixels, ids = resample(pixels, ids, change.matrix.tolist(), sample.centre, patch_size, change.padding)
        if change.flips:
            pixels, ids = pixels.flip([axis + 1 for axis in change.flips]), ids.flip(change.flips)
        images.append(pixels)
        labels.append(ids.long())
    image = change_intensities(torch.stack(images), [sample.change for sample in samples])
    return image, torch.stack(labels)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields the indices (epoch, 0), (epoch, 1), …; the training loop sets the epoch.

    Example:
        >>> from deconvseg.data import EpochSampler
        >>> sampler = EpochSampler(samples_per_epoch=3)
        >>> sampler.set_epoch(2)
        >>> list(sampler)
        [(2, 0), (2, 1), (2, 2)]

    """

    def __init__(self, samples_per_epoch: int) -> None:
        self.samples_per_epoch = samples_per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, sample) for sample in range(self.samples_per_epoch)])

    def __len__(self) -> int:
        return self.samples_per_epoch


class CaseDataset(TorchDataset[dict[str, Any]]):
    """Whole prepared cases, for validation.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import CaseDataset, LabelEncoding, Normalisation, open_dataset, prepare_cases
        >>> encoding = LabelEncoding((0, 255), ("background", "disc"))
        >>> settings = {"spacing": (1.0, 1.0), "normalisations": [Normalisation()], "encoding": encoding}
        >>> cases = CaseDataset(prepare_cases(open_dataset("DATASET"), Path("cache"), **settings))
        >>> len(cases), cases[0]["image"].shape
        (8, torch.Size([1, 40, 48]))

    """

    def __init__(self, cases: Sequence[PreparedCase]) -> None:
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        case = self.cases[index]
        with naming(f"case {case.name}"):
            image, labels = torch.from_numpy(case.image[...]), torch.from_numpy(case.labels[...]).long()
        return {"image": image, "labels": labels, "case": case.name}


def crop(array: StoredArray | NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Return the box at ``start`` with ``size`` in the last axes, padded with zeros outside the array."""
    spatial = array.shape[array.ndim - len(size) :]
    inside: list[slice] = []
    margins: list[tuple[int, int]] = []
    for first, length, n in zip(start, size, spatial, strict=True):
        low, high = min(max(first, 0), n), min(max(first + length, 0), n)
        before = min(max(-first, 0), length)
        inside.append(slice(low, high))
        margins.append((before, length - before - (high - low)))
    leading = [slice(None)] * (array.ndim - len(size))
    # The stored arrays cannot read an empty box.
    if any(box.start == box.stop for box in inside):
        return np.zeros((*array.shape[: len(leading)], *size), array.dtype)
    index = (*leading, *inside)
    box: NDArray[Any] = np.array(array[index])
    if any(before or after for before, after in margins):
        box = np.pad(box, [(0, 0)] * len(leading) + margins)
    return box


def _covered(
    matrix: NDArray[np.float64],
    start: Sequence[int],
    patch_size: Sequence[int],
    volume: Sequence[tuple[int, int]],
) -> tuple[tuple[range, ...], tuple[float, ...]]:
    """Return the box of a volume that a rotated patch covers, and the position of the patch's centre in that box.

    ``volume`` is the first voxel of each axis and the one after its last.
    """
    firsts, ends = zip(*volume, strict=True)
    half = (np.asarray(patch_size) - 1) / 2
    middle = np.asarray(start) + half
    reach = np.abs(matrix) @ half
    low = np.maximum(np.floor(middle - reach), firsts).astype(int)
    high = np.minimum(np.ceil(middle + reach) + 1, ends).astype(int)
    return tuple(range(int(a), int(b)) for a, b in zip(low, high, strict=True)), tuple((middle - low).tolist())
