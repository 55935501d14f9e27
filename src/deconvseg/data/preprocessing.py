"""Preprocessing: resample cases to the network's grid and normalise intensities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deconvseg.data.boxes import grown_box, nonzero_box
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
        if not np.isfinite(mean):
            raise InputError("the image has NaN or infinite values; replace them first")
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


@dataclass(frozen=True)
class Preprocessing:
    """The way of an image to the grid of a network, in canonical axis order.

    The image is cropped to the box of its nonzero voxels, grown by ``crop_margin`` voxels (None: not cropped), and
    resampled linearly to ``spacing`` in mm, or to the size ``resize`` if it is given, whatever the spacing. Each
    channel is normalised after that, or before resampling with ``normalise_first``.

    Example:
        >>> from deconvseg.data import Normalisation, Preprocessing, read_image
        >>> preprocessing = Preprocessing((1.0, 1.0, 2.0), (Normalisation("zscore_nonzero"),), resize=(16, 16, 8))
        >>> preprocessing.image(read_image("scan.nii.gz")).shape
        (16, 16, 8)

    """

    spacing: tuple[float, ...]
    normalisations: tuple[Normalisation, ...]
    resize: tuple[int, ...] | None = None
    crop_margin: int | None = None
    normalise_first: bool = False

    @property
    def key(self) -> dict[str, Any]:
        """What a preprocessed image depends on; choices that change nothing are left out, as in older caches."""
        grid = {"spacing": list(map(float, self.spacing))} if self.resize is None else {"resize": list(self.resize)}
        return {
            **grid,
            "normalisations": [asdict(normalisation) for normalisation in self.normalisations],
            **({} if self.crop_margin is None else {"crop_margin": self.crop_margin}),
            **({"normalise_first": True} if self.normalise_first else {}),
        }

    def box(self, image: Image) -> tuple[range, ...]:
        """Return the voxels that the network sees, in canonical axis order: all, if the image is zero everywhere."""
        shape = [image.shape[axis] for axis in image.geometry.axis_order().permutation]
        inner = None if self.crop_margin is None else nonzero_box(image)
        return tuple(map(range, shape)) if inner is None else grown_box(inner, self.crop_margin or 0, shape)

    def shape(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the shape on the network's grid of an image (cropped, if it is) in canonical axis order."""
        return self.resize or resampled_shape(shape, spacing, self.spacing)

    def image(self, image: Image, box: tuple[range, ...] | None = None) -> Image:
        """Return the image on the network's grid, normalised; ``box`` is the result of :meth:`box`, if it is known."""
        seen = _cropped(image.canonical(), self.box(image) if box is None else box)
        if self.normalise_first:
            seen = self._normalised(seen, image)
        resampled = seen.resampled(self.shape(seen.shape, seen.geometry.spacing))
        return resampled if self.normalise_first else self._normalised(resampled, image)

    def labels(self, labels: LabelMap, box: tuple[range, ...]) -> LabelMap:
        """Return the label map on the grid of the image whose :meth:`box` is given.

        Labels are resampled to a spacing as the argmax of their linearly interpolated one-hot maps, and resized by
        nearest neighbour.
        """
        canonical = labels.canonical()
        seen = replace(
            canonical,
            pixels=np.ascontiguousarray(canonical.pixels[_slices(box)]),
            geometry=canonical.geometry.cropped(box),
        )
        shape = self.shape(seen.shape, seen.geometry.spacing)
        if shape == seen.shape:
            return seen
        return seen.resampled_smooth(shape) if self.resize is None else seen.resampled(shape)

    def _normalised(self, image: Image, given: Image) -> Image:
        """Normalise an image in place, unless it shares its pixels with the given one."""
        pixels = image.pixels.copy() if np.may_share_memory(image.pixels, given.pixels) else image.pixels
        for normalisation, channel in zip(self.normalisations, pixels, strict=True):
            normalisation.apply(channel)
        return Image(pixels, image.geometry)


def preprocess_image(
    image: Image,
    spacing: Sequence[float],
    normalisations: Sequence[Normalisation],
    *,
    resize: Sequence[int] | None = None,
    crop_margin: int | None = None,
    normalise_first: bool = False,
) -> Image:
    """Return the image in canonical axis order, resampled (linearly) to the spacing in mm, each channel normalised.

    The further arguments are those of :class:`Preprocessing`.

    Example:
        >>> from deconvseg.data import Normalisation, preprocess_image, read_image
        >>> image = read_image("scan.nii.gz")
        >>> image.shape, image.geometry.spacing  # the file's axes run to the left and to the front
        ((20, 24, 12), (1.0, 1.0, 2.0))
        >>> preprocess_image(image, (2.0, 2.0, 2.0), [Normalisation()]).shape
        (12, 10, 12)

    """
    size = None if resize is None else tuple(resize)
    return Preprocessing(tuple(spacing), tuple(normalisations), size, crop_margin, normalise_first).image(image)


def preprocess_labels(
    labels: LabelMap,
    spacing: Sequence[float],
    *,
    resize: Sequence[int] | None = None,
    box: tuple[range, ...] | None = None,
) -> LabelMap:
    """Return the label map in canonical axis order on the grid that :func:`preprocess_image` makes.

    ``box`` is the :meth:`~Preprocessing.box` of a cropped image.

    Example:
        >>> from deconvseg.data import preprocess_labels, read_label_map
        >>> preprocess_labels(read_label_map("truth.nii.gz"), (2.0, 2.0, 2.0)).shape
        (12, 10, 12)

    """
    if box is None:
        box = tuple(range(labels.shape[axis]) for axis in labels.geometry.axis_order().permutation)
    return Preprocessing(tuple(spacing), (), None if resize is None else tuple(resize)).labels(labels, box)


def _cropped(image: Image, box: tuple[range, ...]) -> Image:
    """Return the part of an image in canonical axis order; the image itself for all of it."""
    if tuple(map(len, box)) == image.shape:
        return image
    whole = (slice(None), *_slices(box))
    return Image(np.ascontiguousarray(image.pixels[whole]), image.geometry.cropped(box))


def _slices(box: tuple[range, ...]) -> tuple[slice, ...]:
    return tuple(slice(part.start, part.stop) for part in box)


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
