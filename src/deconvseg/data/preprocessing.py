"""Preprocessing: resample cases to the network's grid and normalise intensities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from deconvseg.data.axes import CANONICAL, Axes
from deconvseg.data.boxes import grown_box, nonzero_box
from deconvseg.data.colours import is_rgb
from deconvseg.data.geometry import AxisOrder, Geometry
from deconvseg.data.normalisation import Normalisation, inside_of
from deconvseg.data.resampling import LINEAR, Resampling
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError


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
    """The way of an image to the grid of a network, on the network's ``axes`` (by default in canonical order).

    The image is cropped to the box of its nonzero voxels, grown by ``crop_margin`` voxels (None: not cropped), and
    resampled (by default linearly) to ``spacing`` in mm, or to the size ``resize`` if it is given, whatever the
    spacing. Each channel is normalised after that, or before resampling with ``normalise_first``.

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
    axes: Axes = CANONICAL
    resampling: Resampling = LINEAR

    @property
    def key(self) -> dict[str, Any]:
        """What a preprocessed image depends on; choices that change nothing are left out, as in older caches."""
        grid = {"spacing": list(map(float, self.spacing))} if self.resize is None else {"resize": list(self.resize)}
        return {
            **grid,
            "normalisations": [asdict(normalisation) for normalisation in self.normalisations],
            **({} if self.crop_margin is None else {"crop_margin": self.crop_margin}),
            **({"normalise_first": True} if self.normalise_first else {}),
            **({} if self.axes == CANONICAL else {"axes": self.axes.model_dump(mode="json")}),
            **({} if self.resampling == LINEAR else {"resampling": self.resampling.model_dump(mode="json")}),
        }

    def order(self, geometry: Geometry) -> AxisOrder:
        """Return the order that brings an image with this geometry to the network's axes."""
        return self.axes.of(geometry)

    def box(self, image: Image) -> tuple[range, ...]:
        """Return the voxels that the network sees, on its axes: all, if the image is zero everywhere."""
        order = self.order(image.geometry)
        shape = [image.shape[axis] for axis in order.permutation]
        inner = None if self.crop_margin is None else nonzero_box(image, order)
        return tuple(map(range, shape)) if inner is None else grown_box(inner, self.crop_margin or 0, shape)

    def shape(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the shape on the network's grid of an image (cropped, if it is) on the network's axes."""
        if self.resize is not None:
            return self.resize
        target = self.target(spacing)
        if self.resampling.interpolation == "cubic":
            # Rounded once more, because spacings are stored in single precision.
            exact = (round(n * old / new, 4) for n, old, new in zip(shape, spacing, target, strict=True))
            return tuple(max(1, round(size)) for size in exact)
        return resampled_shape(shape, spacing, target)

    def target(self, spacing: Sequence[float]) -> tuple[float, ...]:
        """Return the spacing (mm) of the network's grid for an image with this spacing on the network's axes."""
        native = self.axes.native
        return tuple(spacing[axis] if axis in native else length for axis, length in enumerate(self.spacing))

    def slice_axis(self, shape: Sequence[int], spacing: Sequence[float]) -> int | None:
        """Return the axis along which maps come back to the grid of an image by nearest neighbour, if there is one.

        ``shape`` and ``spacing`` are those of the image (cropped, if it is) on the network's axes.
        """
        return self.resampling.slice_axis(self._made_spacing(shape, spacing), spacing)

    def _made_spacing(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
        if self.resize is None:
            return self.target(spacing)
        return tuple(old * n / new for old, n, new in zip(spacing, shape, self.resize, strict=True))

    def image(self, image: Image, box: tuple[range, ...] | None = None) -> Image:
        """Return the image on the network's grid, normalised; ``box`` is the result of :meth:`box`, if it is known."""
        seen = _cropped(image.reordered(self.order(image.geometry)), self.box(image) if box is None else box)
        if self.normalise_first:
            seen = self._normalised(seen, image)
        spacing = seen.geometry.spacing
        shape = self.shape(seen.shape, spacing)
        resampled = self.resampling.image(seen, shape, self._made_spacing(seen.shape, spacing))
        return resampled if self.normalise_first else self._normalised(resampled, image)

    def labels(self, labels: LabelMap, box: tuple[range, ...]) -> LabelMap:
        """Return the label map on the grid of the image whose :meth:`box` is given.

        Labels are resampled to a spacing as the argmax of their linearly interpolated one-hot maps, and resized by
        nearest neighbour.
        """
        whole = labels.reordered(self.order(labels.geometry))
        seen = replace(
            whole, pixels=np.ascontiguousarray(whole.pixels[_slices(box)]), geometry=whole.geometry.cropped(box)
        )
        shape = self.shape(seen.shape, seen.geometry.spacing)
        if shape == seen.shape:
            return seen
        return seen.resampled_smooth(shape) if self.resize is None else seen.resampled(shape)

    def _normalised(self, image: Image, given: Image) -> Image:
        """Normalise an image in place, unless it shares its pixels with the given one."""
        pixels = image.pixels.copy() if np.may_share_memory(image.pixels, given.pixels) else image.pixels
        needed = any(normalisation.kind == "zscore_inside" for normalisation in self.normalisations)
        inside = inside_of(list(pixels)) if needed else None
        for normalisation, channel in zip(self.normalisations, pixels, strict=True):
            normalisation.apply(channel, inside)
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
    """Return the part of an image on the network's axes; the image itself for all of it."""
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
