"""Sliding windows over an array of any size that fits into memory."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvseg.inference.grids import GridAxis, chunks_of
from deconvseg.inference.runner import WindowMemoryError, WindowRunner
from deconvseg.inference.sweeping import Sweep
from deconvseg.inference.tiling import check_overlap


@torch.inference_mode()
def predict_windows(
    network: nn.Module,
    image: Tensor,
    window: Sequence[int],
    *,
    overlap: float = 0.5,
    regions: bool = False,
    tta: bool = False,
) -> Tensor:
    """Return probabilities (B, K, \\*S), on the CPU, of an image (B, C, \\*S) of any size.

    Logits are averaged over Gaussian-weighted windows; only windows are on the image's device, never the whole result.

    ``overlap`` is the fraction that neighbouring windows share at least (Deconver, section IV-A3: 0.5); ``regions``
    takes the sigmoid of each output instead of the softmax over all; ``tta`` averages the logits of every window's
    mirrorings along all sets of axes. An image smaller than the window is padded with zeros and cropped back.
    Raises :class:`~deconvseg.errors.InputError` for an overlap that is not from 0 to below 1.
    """
    check_overlap(overlap)
    mirrored = range(len(window)) if tta else ()
    runner = WindowRunner(network, window, device=image.device, mirrored=mirrored)
    while True:
        try:
            return torch.stack([_predict_sample(runner, sample, overlap, regions) for sample in image])
        except WindowMemoryError as error:
            if not error.runner.shrink():
                raise error.__cause__ or error from None


def activate(logits: Tensor, regions: bool) -> Tensor:
    """Turn logits (K, \\*S) into probabilities: of each region by itself, or of classes that exclude each other."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=0)


def _predict_sample(runner: WindowRunner, image: Tensor, overlap: float, regions: bool) -> Tensor:
    axes = [GridAxis.make(size, side, overlap) for size, side in zip(image.shape[1:], runner.window, strict=True)]
    chunks, whole = chunks_of(range(axes[0].size), axes[0].window), [range(axis.size) for axis in axes[1:]]
    slabs = Sweep(runner, image, axes, store=torch.device("cpu")).slabs(chunks, whole)
    return torch.cat([activate(slab, regions) for slab in slabs], dim=1)
