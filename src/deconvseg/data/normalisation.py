"""Normalisation of the intensities of a channel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deconvseg.errors import InputError

NormalisationKind: TypeAlias = Literal["zscore", "zscore_nonzero", "zscore_inside", "ct", "minmax"]

# Number of voxels that are normalised at a time.
_BLOCK = 2**20
_Masks: TypeAlias = Callable[[int], NDArray[np.bool_]]


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of the intensities of one channel.

    ``zscore`` uses the mean and standard deviation of the volume, ``zscore_nonzero`` those of its non-zero voxels
    (only these are changed), ``zscore_inside`` those of the voxels that are non-zero in any channel or, in 3D,
    enclosed by such voxels (only these are changed), ``ct`` clips and uses the foreground statistics of the dataset,
    and ``minmax`` maps the smallest intensity of the volume to 0 and the largest to 1.

    Example:
        >>> from deconvseg.data import Normalisation, preprocess_image, read_image
        >>> image = preprocess_image(read_image("scan.nii.gz"), (1.0, 1.0, 2.0), [Normalisation("zscore")])
        >>> bool(abs(image.pixels.mean()) < 1e-5), round(float(image.pixels.std()), 3)
        (True, 1.0)

    """

    kind: NormalisationKind = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised channel, of any shape; it is the only one of its image."""
        normalised = np.array(pixels, np.float32, order="C")
        self.apply(normalised, inside_of([normalised]) if self.kind == "zscore_inside" else None)
        return normalised

    def apply(self, pixels: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> None:
        """Normalise a contiguous channel in place, with only a few megabytes of extra memory for any size.

        ``zscore_inside`` needs the voxels ``inside`` of the image (:func:`inside_of`).
        """
        flat = pixels.reshape(-1)
        blocks = [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]
        if self.clip is not None:
            for block in blocks:
                np.clip(block, *self.clip, out=block)
        if self.kind == "ct":
            if self.mean is None or self.std is None:
                raise InputError("normalisation 'ct' needs 'mean' and 'std' in the plan's channel")
            _shift_and_scale(blocks, self.mean, self.std)
            return
        if self.kind == "minmax":
            _stretch(blocks)
            return
        counted = self._masks_of(blocks, inside)
        mean, std, largest = _statistics(blocks, counted)
        for number, block in enumerate(blocks):
            # A constant channel has no scale: it becomes zero.
            if std <= 1e-8 * largest:
                block[:] = 0
            else:
                np.copyto(block, (block - mean) / std, where=counted(number), casting="same_kind")

    def _masks_of(self, blocks: Sequence[NDArray[np.float32]], inside: NDArray[np.bool_] | None) -> _Masks:
        """Return the function that makes the mask of a block: its voxels that count and are changed."""
        if self.kind == "zscore_inside":
            if inside is None:
                raise ValueError("zscore_inside needs the voxels inside of the image")
            flat = inside.reshape(-1)
            return lambda number: flat[number * _BLOCK : (number + 1) * _BLOCK]
        if self.kind == "zscore_nonzero":
            return lambda number: blocks[number] != 0
        return lambda number: np.ones(blocks[number].shape, bool)


def inside_of(channels: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Return the voxels (\\*S) that are non-zero in any of the channels (\\*S) or, in 3D, enclosed by such voxels."""
    from scipy.ndimage import binary_fill_holes

    nonzero: NDArray[np.bool_] = channels[0] != 0
    for channel in channels[1:]:
        nonzero |= channel != 0
    if nonzero.ndim < 3:
        return nonzero
    filled: NDArray[np.bool_] = binary_fill_holes(nonzero)
    return filled


def _statistics(blocks: Sequence[NDArray[np.float32]], counted: _Masks) -> tuple[np.float64, np.float64, float]:
    """Return mean and standard deviation in double precision, and the largest magnitude; zeros without voxels."""
    count = sum(int(np.count_nonzero(counted(number))) for number in range(len(blocks)))
    if count == 0:
        return np.float64(0), np.float64(0), 0.0
    total = sum(block.sum(dtype=np.float64, where=counted(number)) for number, block in enumerate(blocks))
    mean = np.float64(total / count)
    if not np.isfinite(mean):
        raise InputError("the image has NaN or infinite values; replace them first")
    squares = sum(np.square(block - mean).sum(where=counted(number)) for number, block in enumerate(blocks))
    return mean, np.float64(np.sqrt(squares / count)), max(float(np.abs(block).max()) for block in blocks)


def _shift_and_scale(blocks: Sequence[NDArray[np.float32]], shift: float, scale: float) -> None:
    for block in blocks:
        block -= shift
        block /= scale


def _stretch(blocks: Sequence[NDArray[np.float32]]) -> None:
    """Map the smallest value of all blocks to 0 and the largest to 1; a constant channel becomes zero."""
    low, high = min(float(block.min()) for block in blocks), max(float(block.max()) for block in blocks)
    if not np.isfinite(high - low):
        raise InputError("the image has NaN or infinite values; replace them first")
    _shift_and_scale(blocks, low, max(high - low, 1e-8))
