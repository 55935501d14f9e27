"""An image on the grid of each network, and the memory that bringing it there takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvseg.data import Geometry, Image, match_channels, nonzero_box, preprocess_image
from deconvseg.errors import InputError
from deconvseg.planning import Plan


@dataclass(frozen=True)
class PreparedImage:
    """An image on the grid of each network; its own pixels are no longer needed.

    Attributes:
        shape: the spatial shape of the image as it was given, which its mask will have.
        geometry: where that grid lies.
        pixels: (C, \\*S) for each network, normalised; networks that see the same share one tensor.
        box: the voxels to predict, in canonical axis order; None where there is nothing but zeros.
        where: how messages call the image.

    """

    shape: tuple[int, ...]
    geometry: Geometry
    pixels: list[Tensor]
    box: tuple[range, ...] | None
    where: str

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """The spatial shape of the image as it was given, in canonical axis order."""
        return tuple(self.shape[axis] for axis in self.geometry.axis_order().permutation)

    @property
    def bytes(self) -> int:
        """What the pixels take."""
        return sum(pixels.nbytes for pixels in self._distinct())

    @property
    def reading_bytes(self) -> int:
        """The peak of memory from the image's files to its pixels on the networks' grids."""
        original = self.pixels[0].element_size() * len(self.pixels[0]) * math.prod(self.shape)
        order = self.geometry.axis_order()
        reordered = original if any(order.flips) or list(order.permutation) != sorted(order.permutation) else 0
        # A file is read into one array and copied into another.
        peak, made = 2 * original, 0
        for pixels in self._distinct():
            made += pixels.nbytes
            resampled = tuple(pixels.shape[1:]) != self.canonical_shape
            peak = max(peak, original + made + (reordered if resampled else 0))
        return peak

    def _distinct(self) -> list[Tensor]:
        return list({id(pixels): pixels for pixels in self.pixels}.values())


def prepare(image: Image, plans: Sequence[Plan], *, crop: bool, where: str) -> PreparedImage:
    """Bring an image to the grid and the intensities of each network.

    With ``crop`` only the box of all voxels that are not zero in every channel is to be predicted.
    """
    seen: list[tuple[Plan, Tensor]] = []
    for plan in plans:
        if len(image.shape) != plan.spatial_dims:
            raise InputError(
                f"{where}: has {len(image.shape)} dimensions, but the run needs {plan.spatial_dims}D images"
            )
        alike = (pixels for other, pixels in seen if _sees(other) == _sees(plan))
        pixels = next(alike, None)
        if pixels is None:
            channels = match_channels(image, [channel.name for channel in plan.channels], where)
            pixels = torch.from_numpy(preprocess_image(channels, plan.spacing, plan.normalisations).pixels)
        seen.append((plan, pixels))
    order = image.geometry.axis_order()
    box = nonzero_box(image) if crop else tuple(range(image.shape[axis]) for axis in order.permutation)
    return PreparedImage(image.shape, image.geometry, [pixels for _, pixels in seen], box, where)


def _sees(plan: Plan) -> tuple[object, ...]:
    """What decides how an image is brought to the network's grid."""
    return plan.spacing, plan.channels
