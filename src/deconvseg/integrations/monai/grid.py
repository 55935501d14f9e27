"""The way of an image to the grid of a network and of logits back, as an invertible transform of MONAI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.data import Geometry, Image, Preprocessing, match_channels, nonzero_box
from deconvseg.errors import InputError
from deconvseg.inference import GridAxis
from deconvseg.planning.parts import ChannelPlan

Box = tuple[range, ...]


class NetworkGridd(MapTransform, InvertibleTransform):
    """Resample and normalise images (C, \\*S) as :func:`deconvseg.predict` does, and bring logits back.

    Volumes have the axes nearest to RAS (``Orientationd``); pictures are (column, row), as MONAI reads them, and become
    (row, column), as the network was trained. ``channels`` are the names and normalisations of a plan. The image is
    cropped to the box of its non-zero voxels, grown by ``crop_margin`` voxels, interpolated linearly with aligned outer
    edges to ``spacing`` in mm or to the size ``resize``, and normalised, or normalised first. MONAI's ``Spacingd`` and
    ``Resized`` give other sizes and places. With ``crop_to_nonzero`` only what is needed for the box of non-zero voxels
    stays, at least a window of ``roi_size``.

    The inverse interpolates maps (K, \\*S) back to the image's own grid. Voxels that no window covered are NaN, which
    :class:`Decided` makes background.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from deconvseg.integrations.monai import NetworkGridd
        >>> to_grid = NetworkGridd("image", channels=[{"name": "CT"}], spacing=(2.0, 1.0, 1.0), roi_size=(8, 8, 8))
        >>> there = to_grid({"image": MetaTensor(torch.rand(1, 20, 16, 12))})
        >>> there["image"].shape, to_grid.inverse(there)["image"].shape
        (torch.Size([1, 10, 16, 12]), torch.Size([1, 20, 16, 12]))

    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: Sequence[Mapping[str, Any]],
        spacing: Sequence[float],
        roi_size: Sequence[int],
        resize: Sequence[int] | None = None,
        crop_margin: int | None = None,
        normalise_first: bool = False,
        crop_to_nonzero: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        plans = [ChannelPlan.model_validate(dict(channel)) for channel in channels]
        self.names = [plan.name for plan in plans]
        self.roi_size = tuple(roi_size)
        self.crop_to_nonzero = crop_to_nonzero
        self.preprocessing = Preprocessing(
            tuple(spacing),
            tuple(plan.to_normalisation() for plan in plans),
            None if resize is None else tuple(resize),
            crop_margin,
            normalise_first,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with images on the network's grid."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = self._to_grid(found[key])
        return found

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with maps on the image's grid."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = self._from_grid(found[key])
        return found

    def _to_grid(self, given: Tensor) -> MetaTensor:
        flat = len(self.preprocessing.spacing) == 2
        if given.ndim != len(self.preprocessing.spacing) + 1:
            raise InputError(
                f"an image of the shape {tuple(given.shape)}: the network needs (channels, "
                f"{len(self.preprocessing.spacing)} axes)"
            )
        affine = np.asarray(getattr(given, "affine", np.eye(4)), np.float64)
        pixels = np.asarray(given.detach().cpu().as_subclass(torch.Tensor), np.float32)
        image = Image(pixels.swapaxes(1, 2), _flat(affine)) if flat else Image(pixels, Geometry(affine))
        seen = self.preprocessing.box(image)
        prepared = self.preprocessing.image(match_channels(image, self.names), seen)
        wanted = self._wanted(image, seen)
        # Without a voxel to predict, one window of zeros passes through the network.
        axes = self._axes(prepared.shape, seen, wanted or tuple(range(len(part)) for part in seen))
        box = tuple(axis.box if wanted else range(min(axis.size, axis.window)) for axis in axes)
        cut = prepared.pixels[_slices(box)]
        made = MetaTensor(torch.from_numpy(np.ascontiguousarray(cut)))
        if isinstance(given, MetaTensor):
            made.copy_meta_from(given)
        if not flat:
            made.affine = torch.tensor(prepared.geometry.cropped(box).affine)
        record = {
            "shape": list(image.shape),
            "grid": list(prepared.shape),
            "seen": _plain(seen),
            "wanted": None if wanted is None else _plain(wanted),
            "affine": affine.tolist(),
        }
        placed: MetaTensor = self.push_transform(made, orig_size=tuple(given.shape[1:]), extra_info=record)
        return placed

    def _from_grid(self, given: MetaTensor) -> MetaTensor:
        record = self.pop_transform(given)["extra_info"]
        seen, flat = _ranges(record["seen"]), len(record["shape"]) == 2
        made = torch.full((len(given), *record["shape"]), torch.nan)
        if record["wanted"] is not None:
            wanted = _ranges(record["wanted"])
            maps = given.detach().cpu().float().as_subclass(torch.Tensor)
            axes = self._axes(record["grid"], seen, wanted)
            sources = [axis.source(part) for axis, part in zip(axes, wanted, strict=True)]
            for axis in (len(sources) - 1, *range(len(sources) - 1)):
                maps = sources[axis].apply(maps, 1 + axis, 0)
            pairs = zip(seen, wanted, strict=True)
            inner = tuple(range(whole.start + part.start, whole.start + part.stop) for whole, part in pairs)
            made[_slices(inner)] = maps
        restored = MetaTensor(made.transpose(1, 2).contiguous() if flat else made)
        restored.copy_meta_from(given)
        restored.affine = torch.tensor(record["affine"], dtype=torch.float64)
        return restored

    def _wanted(self, image: Image, seen: Box) -> Box | None:
        """Return the voxels to predict, counted from those that the network sees; None if all are zero."""
        if not self.crop_to_nonzero:
            return tuple(range(len(part)) for part in seen)
        inner = nonzero_box(image)
        if inner is None:
            return None
        return tuple(range(p.start - s.start, p.stop - s.start) for p, s in zip(inner, seen, strict=True))

    def _axes(self, grid: Sequence[int], seen: Box, wanted: Box) -> list[GridAxis]:
        sides = zip(grid, self.roi_size, seen, wanted, strict=True)
        return [
            GridAxis.make(size, window, 0.0, outputs=len(whole), wanted=part) for size, window, whole, part in sides
        ]


def _flat(affine: NDArray[np.float64]) -> Geometry:
    """Return the geometry of a picture (row, column) from MONAI's affine of (column, row)."""
    column, row = np.linalg.norm(affine[:3, :2], axis=0)
    return Geometry(np.diag([row, column, 1.0]))


def _slices(box: Box) -> tuple[slice, ...]:
    """Return the part of an array (C, \\*S) in a box."""
    return (slice(None), *(slice(part.start, part.stop) for part in box))


def _plain(box: Box) -> list[list[int]]:
    return [[part.start, part.stop] for part in box]


def _ranges(plain: Sequence[Sequence[int]]) -> Box:
    return tuple(range(start, stop) for start, stop in plain)
