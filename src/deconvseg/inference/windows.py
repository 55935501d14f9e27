"""Sliding windows over an image of any size."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
    """Return probabilities (B, K, *S), on the CPU, of an image (B, C, *S) of any size.

    Logits are averaged over Gaussian-weighted windows; only windows are on the image's device, never the whole result.

    ``overlap`` is the fraction that neighbouring windows share (Deconver, section IV-A3: 0.5); ``regions`` takes the
    sigmoid of each output instead of the softmax over all; ``tta`` averages over the mirrorings of all sets of axes.
    An image smaller than the window is padded with zeros and cropped back.
    """
    from monai.inferers import sliding_window_inference

    def probabilities(flipped: Tensor) -> Tensor:
        logits = sliding_window_inference(
            flipped, tuple(window), 1, network, overlap=overlap, mode="gaussian", device=torch.device("cpu")
        )
        return torch.sigmoid(logits.float()) if regions else torch.softmax(logits.float(), dim=1)

    if not tta:
        return probabilities(image)
    axes = range(2, image.ndim)
    mirrorings = [flip for count in range(image.ndim - 1) for flip in itertools.combinations(axes, count)]
    total = torch.zeros(())
    for flip in mirrorings:
        total = total + probabilities(image.flip(flip)).flip(flip)
    return total / len(mirrorings)
