"""An image on the grid of each network, and the memory that resampling takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import nibabel as nib
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.data import AxisOrder, Geometry, Image, match_channels, nonzero_box
from deconvseg.errors import InputError
from deconvseg.inference.masks import ids_of
from deconvseg.inference.sweep import Volume
from deconvseg.planning import Plan
from deconvseg.system import available_memory
from deconvseg.units import format_bytes


@dataclass(frozen=True)
class PreparedImage:
    """An image on the grid of each network; its own pixels are no longer needed.

    Attributes:
        shape: the spatial shape of the given image and of its mask.
        geometry: the geometry of that grid.
        pixels: (C, \\*S) for each network, normalised; networks with the same input share one tensor.
        crop: the voxels that the networks see, on their axes.
        box: the voxels to predict, among those of ``crop``; None if all voxels are zero.
        where: the name of the image in messages.
        id_bytes: bytes per voxel of the class ids.
        value_bytes: bytes per voxel of the mask.
        remarks: differences from the training scans.
        order: the order that brings the image to the networks' axes.
        copied: whether intensities are normalised, in a copy, before they are resampled.
        slices: for each network the axis along which its maps are taken from the nearest voxel, or None.

    """

    shape: tuple[int, ...]
    geometry: Geometry
    pixels: list[Tensor]
    crop: tuple[range, ...]
    box: tuple[range, ...] | None
    where: str
    id_bytes: int
    value_bytes: int
    order: AxisOrder
    remarks: tuple[str, ...] = ()
    copied: bool = False
    slices: tuple[int | None, ...] = ()

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """The spatial shape of what the networks see of the given image, on their axes."""
        return tuple(map(len, self.crop))

    @cached_property
    def volume(self) -> Volume | None:
        """The volume to sweep; None for an image of zeros alone."""
        if self.box is None:
            return None
        return Volume(self.pixels, self.seen_shape, self.box, self.where, self.held_bytes, self.slices)

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        r"""Return the part of an array (..., \*S) on the image's grid that the networks see, as a view for writing."""
        seen = self.order.view(array)
        leading = (slice(None),) * (array.ndim - len(self.crop))
        whole = leading + tuple(slice(part.start, part.stop) for part in self.crop)
        return seen[whole]

    @property
    def bytes(self) -> int:
        """The bytes of the pixels."""
        return sum(pixels.nbytes for pixels in self._distinct())

    @property
    def held_bytes(self) -> int:
        """The bytes of the pixels, of the class ids, and of two copies of a mask that is being written."""
        return self.bytes + math.prod(self.shape) * (self.id_bytes + 2 * self.value_bytes)

    def finishing_bytes(self, postprocessing: int) -> int:
        """The bytes taken while class ids are converted to a mask, with so many bytes per voxel for post-processing."""
        return self.held_bytes + math.prod(self.shape) * (self.value_bytes + postprocessing)

    @property
    def reading_bytes(self) -> int:
        """The peak of memory from the image's files to its pixels on the networks' grids."""
        original = self.pixels[0].element_size() * len(self.pixels[0]) * math.prod(self.shape)
        order = self.order
        whole = tuple(self.shape[axis] for axis in order.permutation)
        turned = any(order.flips) or list(order.permutation) != sorted(order.permutation)
        reordered = original if turned or self.copied or self.seen_shape != whole else 0
        # A file is read into one array and copied into another.
        peak, made = 2 * original, 0
        for pixels in self._distinct():
            made += pixels.nbytes
            resampled = tuple(pixels.shape[1:]) != whole
            peak = max(peak, original + made + (reordered if resampled else 0))
        return peak

    def _distinct(self) -> list[Tensor]:
        return list({id(pixels): pixels for pixels in self.pixels}.values())


def prepare(image: Image, plans: Sequence[Plan], *, crop: bool, where: str, memory: int | None = None) -> PreparedImage:
    """Resample an image to the grid of each network and normalise its intensities.

    All plans have the same axes and one ``crop_margin``. With ``crop`` only the box of all voxels that are non-zero in
    some channel is predicted. Raises :class:`~deconvseg.errors.InputError` for an image that does not fit the networks,
    and for one that takes more than ``memory`` bytes on their grids, or, without that limit, more than the free memory.
    """
    for plan in plans:
        if len(image.shape) != plan.spatial_dims:
            raise InputError(
                f"{where}: has {len(image.shape)} dimensions, but the run needs {plan.spatial_dims}D images"
            )
    order = plans[0].preprocessing.order(image.geometry)
    seen_box = plans[0].preprocessing.box(image)
    seen_shape, spacing = tuple(map(len, seen_box)), order.apply_geometry(image.geometry, image.shape).spacing
    _check_memory(image, plans, seen_shape, spacing, memory, where)
    seen: list[tuple[Plan, Tensor]] = []
    for plan in plans:
        alike = (pixels for other, pixels in seen if _sees(other) == _sees(plan))
        pixels = next(alike, None)
        if pixels is None:
            channels = match_channels(image, [channel.name for channel in plan.channels], where)
            pixels = torch.from_numpy(plan.preprocessing.image(channels, seen_box).pixels)
        seen.append((plan, pixels))
    box: tuple[range, ...] | None = tuple(range(len(part)) for part in seen_box)
    if crop and (inner := nonzero_box(image, order)) is not None:
        pairs = zip(inner, seen_box, strict=True)
        box = tuple(range(part.start - seen.start, part.stop - seen.start) for part, seen in pairs)
    elif crop:
        box = None
    remarks = _find_unusual(image, plans, where)
    one = ids_of(plans[0], (1,))
    return PreparedImage(
        image.shape,
        image.geometry,
        [pixels for _, pixels in seen],
        seen_box,
        box,
        where,
        one.itemsize,
        plans[0].labels.to_encoding().decode(one).itemsize,
        order,
        remarks,
        any(plan.normalise_first for plan in plans),
        tuple(plan.preprocessing.slice_axis(seen_shape, spacing) for plan in plans),
    )


def _find_unusual(image: Image, plans: Sequence[Plan], where: str) -> tuple[str, ...]:
    """Describe how an image differs from the scans of every training; nothing if it resembles those of one training."""
    first: tuple[str, ...] | None = None
    for plan in plans:
        if plan.data is None:
            continue
        names = [channel.name for channel in plan.channels]
        found = _odd_orientation(image, plan.data.orientations)
        if plan.data.appearance is not None:
            found += plan.data.appearance.unusual(match_channels(image, names, where), names)
        if not found:
            return ()
        first = first or found
    if first is None:
        return ()
    return (f"unlike the training scans: {'; '.join(first)}",)


def _odd_orientation(image: Image, known: Mapping[str, int]) -> tuple[str, ...]:
    if len(image.shape) != 3 or not known:
        return ()
    found = "".join(nib.aff2axcodes(image.geometry.affine))
    if found in known:
        return ()
    return (f"axes stored as {found} (training: {', '.join(known)}; does its header tell left from right?)",)


def _check_memory(
    image: Image,
    plans: Sequence[Plan],
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    memory: int | None,
    where: str,
) -> None:
    grids = {_sees(plan): plan.preprocessing.shape(shape, spacing) for plan in plans}
    made = sum(4 * image.channels * math.prod(grid) for grid in grids.values())
    # The image itself is already in memory.
    room = available_memory() if memory is None else memory - image.pixels.nbytes
    if made > room:
        sizes = " and ".join(" x ".join(map(str, grid)) for grid in grids.values())
        raise InputError(
            f"{where}: takes {format_bytes(made)} of memory on the network's grid ({sizes} voxels), more than the "
            f"{format_bytes(max(0, room))} that are left; check its spacing, give more, or cut it into parts"
        )


def _sees(plan: Plan) -> tuple[object, ...]:
    """The part of a plan that determines how an image is preprocessed."""
    return plan.preprocessing, plan.channels
