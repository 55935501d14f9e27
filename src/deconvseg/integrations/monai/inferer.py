"""The sliding windows of ``deconvseg predict`` as an inferer of MONAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import convert_to_dst_type
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.inference import Member, Slab, Sweep, Volume, as_engine


class EvenWindowInferer(SlidingWindowInferer):
    """Gaussian windows that are evenly spaced, as :func:`deconvseg.predict` places them, with mirrored averages.

    MONAI's own inferer places windows at a fixed step and lets the last one overlap more, which gives other logits
    beside it. Neighbours share at least the fraction ``overlap``; logits of each window are averaged over all
    combinations of mirrorings along ``mirrored_axes``. Windows are padded with zeros. The number of windows of a batch
    follows from the device, and windows shrink if memory runs out.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.integrations.monai import EvenWindowInferer
        >>> network = create_model("unet", in_channels=1, out_channels=3, spatial_dims=2, widths=[4, 8]).eval()
        >>> EvenWindowInferer(roi_size=(32, 32), overlap=0.5)(torch.rand(1, 1, 50, 70), network).shape
        torch.Size([1, 3, 50, 70])

    """

    def __init__(self, roi_size: Sequence[int], *, overlap: float = 0.5, mirrored_axes: Sequence[int] = ()) -> None:
        super().__init__(roi_size=tuple(roi_size), overlap=overlap, mode="gaussian")
        self.mirrored_axes = tuple(mirrored_axes)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits (B, K, \\*S) of images (B, C, \\*S), on the device of the images."""
        if args or kwargs:
            raise InputError("EvenWindowInferer: the network takes an image alone; omit further arguments")
        images = inputs.as_subclass(torch.Tensor)
        engine = as_engine(network, channels=images.shape[1], device=images.device)
        member = Member(engine, self.roi_size, overlap=self.overlap, mirrored=self.mirrored_axes)
        sweep = Sweep([member], outputs=1)
        logits = torch.stack([_sweep(sweep, image) for image in images])
        converted: Tensor = convert_to_dst_type(logits, inputs)[0]
        return converted


def _sweep(sweep: Sweep, image: Tensor) -> Tensor:
    maps = torch.empty(0)

    def keep(slab: Slab) -> None:
        nonlocal maps
        if len(maps) == 0:
            maps = torch.empty(len(slab.logits[0]), *image.shape[1:])
        slab.part_of(maps).copy_(slab.logits[0])

    sweep.map(Volume.whole(image), keep)
    return maps
