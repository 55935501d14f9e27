"""Random training patches, each a function of (seed, epoch, sample) alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from deconvseg.data.cache import PreparedCase

Augment = Callable[[NDArray[np.float32], NDArray[np.integer], np.random.Generator], tuple[torch.Tensor, torch.Tensor]]


class PatchDataset(TorchDataset[dict[str, Any]]):
    """Patches of prepared cases; the index is (epoch, sample), and nothing else decides what comes back.

    An item is ``{"image": (C, *patch) float32, "labels": (*patch) int64, "case": name}``. With probability
    ``foreground`` a patch is centred on a voxel of a class drawn at random, otherwise it lies anywhere in the volume;
    a volume smaller than the patch is padded with zeros (the mean, after normalisation) on both sides.
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

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        epoch, sample = index
        case = self._case(epoch * self.samples_per_epoch + sample)
        rng = np.random.default_rng([self.seed, 1, epoch, sample])
        image, labels = case.image, case.labels
        start = self._start(rng, case, labels.shape)
        image_patch, label_patch = crop(image, start, self.patch_size), crop(labels, start, self.patch_size)
        if self.augment is None:
            tensors = torch.from_numpy(image_patch), torch.from_numpy(label_patch.astype(np.int64))
        else:
            tensors = self.augment(image_patch, label_patch, rng)
        return {"image": tensors[0], "labels": tensors[1].long(), "case": case.name}

    def _case(self, position: int) -> PreparedCase:
        """Walk through the cases in a new order each time round, so that all are seen equally often."""
        turn, place = divmod(position, len(self.cases))
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(self.cases))
        return self.cases[int(order[place])]

    def _start(self, rng: np.random.Generator, case: PreparedCase, shape: Sequence[int]) -> tuple[int, ...]:
        centres = case.centres
        slack = [n - p for n, p in zip(shape, self.patch_size, strict=True)]
        if rng.random() >= self.foreground or len(centres) == 0:
            return tuple(int(rng.integers(0, s + 1)) if s > 0 else s // 2 for s in slack)
        label = rng.choice(np.unique(centres[:, 0]))
        rows = np.flatnonzero(centres[:, 0] == label)
        centre = centres[rng.choice(rows), 1:]
        return tuple(
            int(np.clip(c - p // 2, 0, s)) if s > 0 else s // 2
            for c, p, s in zip(centre, self.patch_size, slack, strict=True)
        )


class EpochSampler(Sampler[tuple[int, int]]):
    """Indices (epoch, 0), (epoch, 1), …; the training loop sets the epoch."""

    def __init__(self, samples_per_epoch: int) -> None:
        self.samples_per_epoch = samples_per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass give the samples of that epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, sample) for sample in range(self.samples_per_epoch)])

    def __len__(self) -> int:
        return self.samples_per_epoch


class CaseDataset(TorchDataset[dict[str, Any]]):
    """Whole prepared cases, for validation."""

    def __init__(self, cases: Sequence[PreparedCase]) -> None:
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        case = self.cases[index]
        image, labels = (
            torch.from_numpy(np.array(case.image)),
            torch.from_numpy(np.array(case.labels, np.int64)),
        )
        return {"image": image, "labels": labels, "case": case.name}


def crop(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Return the box of that size at ``start`` of the last axes, padded with zeros where it leaves the array."""
    spatial = array.shape[array.ndim - len(size) :]
    inside: list[slice] = []
    margins: list[tuple[int, int]] = []
    for first, length, n in zip(start, size, spatial, strict=True):
        low, high = min(max(first, 0), n), min(max(first + length, 0), n)
        before = min(max(-first, 0), length)
        inside.append(slice(low, high))
        margins.append((before, length - before - (high - low)))
    index: tuple[Any, ...] = (..., *inside)
    box: NDArray[Any] = np.array(array[index])
    if any(before or after for before, after in margins):
        box = np.pad(box, [(0, 0)] * (array.ndim - len(size)) + margins)
    return box
