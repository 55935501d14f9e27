"""Preprocessing: resample cases to the network's grid and normalise intensities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.colours import is_rgb
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError

# Number of voxels that are normalised at a time.
_BLOCK = 2**20


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of the intensities of one channel.

    ``zscore`` uses the mean and standard deviation of the volume, ``zscore_nonzero`` those of its non-zero voxels
    (only these are changed), and ``ct`` clips and uses the foreground statistics of the dataset.

    Example:
        >>> from deconvseg.data import Normalisation, preprocess_image, read_image
        >>> image = preprocess_image(read_image("scan.nii.gz"), (1.0, 1.0, 2.0), [Normalisation("zscore")])
        >>> bool(abs(image.pixels.mean()) < 1e-5), round(float(image.pixels.std()), 3)
        (True, 1.0)

    """

    kind: Literal["zscore", "zscore_nonzero", "ct"] = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised channel, of any shape."""
        normalised = np.array(pixels, np.float32, order="C")
        self.apply(normalised)
        return normalised

    def apply(self, pixels: NDArray[np.float32]) -> None:
        """Normalise a contiguous channel in place, with only a few megabytes of extra memory for any size."""
        flat = pixels.reshape(-1)
        blocks = [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]
        if self.clip is not None:
            for block in blocks:
                np.clip(block, *self.clip, out=block)
        if self.kind == "ct":
            if self.mean is None or self.std is None:
                raise InputError("normalisation 'ct' needs 'mean' and 'std' in the plan's channel")
            for block in blocks:
                block -= self.mean
                block /= self.std
            return
        mean, std, largest = self._statistics(blocks)
        for block in blocks:
            # A constant channel has no scale: it becomes zero.
            if std <= 1e-8 * largest:
                block[:] = 0
            else:
                np.copyto(block, (block - mean) / std, where=self._inside(block), casting="same_kind")

    def _statistics(self, blocks: Sequence[NDArray[np.float32]]) -> tuple[np.float64, np.float64, float]:
        """Return mean and standard deviation in double precision, and the largest magnitude; zeros without voxels."""
        count = sum(int(np.count_nonzero(self._inside(block))) for block in blocks)
        if count == 0:
            return np.float64(0), np.float64(0), 0.0
        total = sum(block.sum(dtype=np.float64, where=self._inside(block)) for block in blocks)
        mean = np.float64(total / count)
        squares = sum(np.square(block - mean).sum(where=self._inside(block)) for block in blocks)
        return mean, np.float64(np.sqrt(squares / count)), max(float(np.abs(block).max()) for block in blocks)

    def _inside(self, block: NDArray[np.float32]) -> NDArray[np.bool_]:
        return block != 0 if self.kind == "zscore_nonzero" else np.ones(block.shape, bool)


def match_channels(image: Image, names: Sequence[str], where: str = "the image") -> Image:
    """Return the image with these channels: a grey 2D image is repeated for red, green and blue."""
    found = image.channels
    if found == len(names):
        return image
    if found == 1 and is_rgb(names) and len(image.shape) == 2:
        return Image(np.repeat(image.pixels, 3, axis=0), image.geometry)
    raise InputError(
        f"{where}: {found} channels, but {len(names)} are needed ({', '.join(names)}); "
        "in that order (files: one each; arrays: first axis)"
    )


def preprocess_image(image: Image, spacing: Sequence[float], normalisations: Sequence[Normalisation]) -> Image:
    """Return the image in canonical axis order, resampled (linearly) to the spacing in mm, each channel normalised.

    Example:
        >>> from deconvseg.data import Normalisation, preprocess_image, read_image
        >>> image = read_image("scan.nii.gz")
        >>> image.shape, image.geometry.spacing  # the file's axes run to the left and to the front
        ((20, 24, 12), (1.0, 1.0, 2.0))
        >>> preprocess_image(image, (2.0, 2.0, 2.0), [Normalisation()]).shape
        (12, 10, 12)

    """
    canonical = image.canonical()
    resampled = canonical.resampled(resampled_shape(canonical.shape, canonical.geometry.spacing, spacing))
    pixels = resampled.pixels.copy() if np.may_share_memory(resampled.pixels, image.pixels) else resampled.pixels
    for normalisation, channel in zip(normalisations, pixels, strict=True):
        normalisation.apply(channel)
    return Image(pixels, resampled.geometry)


def preprocess_labels(labels: LabelMap, spacing: Sequence[float]) -> LabelMap:
    """Return the label map in canonical axis order on the grid that :func:`preprocess_image` makes.

    Example:
        >>> from deconvseg.data import preprocess_labels, read_label_map
        >>> preprocess_labels(read_label_map("truth.nii.gz"), (2.0, 2.0, 2.0)).shape
        (12, 10, 12)

    """
    labels = labels.canonical()
    shape = resampled_shape(labels.shape, labels.geometry.spacing, spacing)
    return labels if shape == labels.shape else labels.resampled_smooth(shape)


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Return the number of voxels per axis after resampling; a spacing within 1e-3 mm and 1 % counts as equal.

    Example:
        >>> from deconvseg.data import resampled_shape
        >>> resampled_shape((512, 512, 40), (0.5, 0.5, 5.0), (1.0, 1.0, 2.5))
        (256, 256, 80)

    """
    return tuple(
        n if abs(old - new) <= min(1e-3, 0.01 * new) else max(1, round(n * old / new))
        for n, old, new in zip(shape, spacing, target, strict=True)
    )
