"""From a case on its own grid to the network's grid and intensities, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.raster import is_rgb
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """How one channel's intensities are brought to a common scale.

    ``zscore`` uses the volume's own mean and standard deviation, ``zscore_nonzero`` those of its non-zero voxels
    (which alone are changed), ``ct`` clips and uses the dataset's foreground statistics.
    """

    kind: Literal["zscore", "zscore_nonzero", "ct"] = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised channel, any shape."""
        if self.clip is not None:
            pixels = np.clip(pixels, *self.clip)
        if self.kind == "ct":
            if self.mean is None or self.std is None:
                raise InputError("normalisation 'ct' needs 'mean' and 'std' in the plan's channel")
            return ((pixels - self.mean) / self.std).astype(np.float32)
        inside = pixels != 0 if self.kind == "zscore_nonzero" else np.ones(pixels.shape, bool)
        values = pixels[inside]
        # A constant channel has no scale of its own: it becomes zero everywhere.
        if values.size == 0 or values.std(dtype=np.float64) <= 1e-8 * max(1.0, float(np.abs(values).max())):
            return np.zeros_like(pixels)
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return np.where(inside, (pixels - mean) / std, 0).astype(np.float32)


def match_channels(image: Image, names: Sequence[str], where: str = "the image") -> Image:
    """Return the image with these channels: a grey 2D image is repeated where they are red, green and blue."""
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
    """Return the image in canonical axis order, resampled (linearly) to the spacing in mm, each channel normalised."""
    image = image.canonical()
    image = image.resampled(resampled_shape(image.shape, image.geometry.spacing, spacing))
    pixels = np.stack([normalise(channel) for normalise, channel in zip(normalisations, image.pixels, strict=True)])
    return Image(pixels, image.geometry)


def preprocess_labels(labels: LabelMap, spacing: Sequence[float]) -> LabelMap:
    """Return the label map in canonical axis order on the grid that :func:`preprocess_image` makes."""
    labels = labels.canonical()
    shape = resampled_shape(labels.shape, labels.geometry.spacing, spacing)
    return labels if shape == labels.shape else labels.resampled_smooth(shape)


def restore(maps: NDArray[np.float32], original: Image | LabelMap) -> NDArray[np.float32]:
    """Bring maps (K, *S) on the network's grid back to the grid of the original, (K, *shape), linearly."""
    order = original.geometry.axis_order()
    canonical = original.canonical()
    back = Image(maps, canonical.geometry.resampled(canonical.shape, maps.shape[1:])).resampled(canonical.shape)
    return np.ascontiguousarray(order.undo(back.pixels))


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Return the number of voxels per axis after resampling; a spacing within 1e-3 mm counts as equal."""
    return tuple(
        n if abs(old - new) <= 1e-3 else max(1, round(n * old / new))
        for n, old, new in zip(shape, spacing, target, strict=True)
    )
