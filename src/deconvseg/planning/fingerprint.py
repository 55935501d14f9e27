"""What a dataset is like: measured once, over the cases that may be learnt from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, Dataset
from deconvseg.errors import InputError

# At most this many voxels per case enter the intensity statistics.
_SAMPLES_PER_CASE = 10_000
# More distinct undeclared values than this are instances, not classes.
_MOST_CLASSES = 64


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one channel: the fraction of exact zeros, and the foreground's mean, spread and percentiles."""

    zero_fraction: float
    mean: float
    std: float
    percentile_0_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class Fingerprint:
    """Shapes (canonical axes), spacings in mm, label voxel counts, and intensity statistics per channel.

    ``expanded_grey`` counts the grey images that were taken for RGB.
    """

    spatial_dims: int
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    label_voxels: dict[int, int]
    channels: tuple[ChannelStatistics, ...]
    expanded_grey: int = 0

    @property
    def median_spacing(self) -> tuple[float, ...]:
        """Per-axis median spacing in mm."""
        return tuple(round(float(v), 6) for v in np.median(self.spacings, axis=0))

    @property
    def median_shape(self) -> tuple[int, ...]:
        """Per-axis median number of voxels once every case has the median spacing."""
        sizes = np.array(self.shapes) * np.array(self.spacings) / np.array(self.median_spacing)
        return tuple(int(v) for v in np.round(np.median(sizes, axis=0)))


def take_fingerprint(dataset: Dataset, *, progress: Callable[[Sequence[Case]], Iterable[Case]] = iter) -> Fingerprint:
    """Read every case of the dataset once; :class:`InputError` where a case is broken or masks look like instances."""
    shapes: list[tuple[int, ...]] = []
    spacings: list[tuple[float, ...]] = []
    samples: list[NDArray[np.float32]] = []
    voxels: dict[int, int] = {}
    zeros: list[list[float]] = []
    expanded_grey = 0
    for case in progress(dataset.cases):
        image, labels = dataset.load(case)
        if labels is None:
            raise InputError(f"{case.images[0]}: has no mask; only cases with a mask can be trained on")
        order = image.geometry.axis_order()
        canonical = order.apply_geometry(image.geometry, image.shape)
        if shapes and len(shapes[0]) != len(image.shape):
            raise InputError(
                f"{case.images[0]}: is {len(image.shape)}D among {len(shapes[0])}D images; split the dataset in two"
            )
        shapes.append(tuple(image.shape[axis] for axis in order.permutation))
        spacings.append(canonical.spacing)
        expanded_grey += dataset.expands_grey(case)
        ids = (labels.pixels > 0).astype(np.uint8) if dataset.foreground else labels.pixels
        for value, count in zip(*np.unique(ids, return_counts=True), strict=True):
            voxels[int(value)] = voxels.get(int(value), 0) + int(count)
        zeros.append([float((channel == 0).mean()) for channel in image.pixels])
        samples.append(_sample(image.pixels, ids, case.name))
        if dataset.label_names is None and len(voxels) > _MOST_CLASSES:
            raise InputError(
                f"{case.label}: the masks hold more than {_MOST_CLASSES} different values, as instance maps do; "
                "use --foreground to take every label above zero as one class"
            )
    if not shapes:
        raise InputError(
            f"{dataset.root}: no training cases; check the dataset with 'deconvseg data check' and the splits"
        )
    values = np.concatenate(samples, axis=1)
    channels = tuple(
        _statistics(channel, float(np.mean([case_zeros[index] for case_zeros in zeros])))
        for index, channel in enumerate(values)
    )
    return Fingerprint(
        len(shapes[0]), tuple(shapes), tuple(spacings), dict(sorted(voxels.items())), channels, expanded_grey
    )


def _sample(pixels: NDArray[np.float32], ids: NDArray[np.integer], name: str) -> NDArray[np.float32]:
    """Return a sample (C, n) of the foreground, or of everything where there is none."""
    inside = ids > 0
    values = pixels[:, inside] if inside.any() else pixels.reshape(len(pixels), -1)
    if values.shape[1] > _SAMPLES_PER_CASE:
        rng = np.random.default_rng([len(name), *name.encode()])
        values = values[:, rng.choice(values.shape[1], _SAMPLES_PER_CASE, replace=False)]
    return values


def _statistics(values: NDArray[np.float32], zero_fraction: float) -> ChannelStatistics:
    low, high = np.percentile(values, (0.5, 99.5))
    return ChannelStatistics(zero_fraction, float(values.mean()), float(values.std()), float(low), float(high))
