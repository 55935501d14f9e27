"""Sliding windows over an array of any size that fits into memory."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.inference.deciding import activate
from deconvseg.inference.engine import Engine
from deconvseg.inference.members import Member
from deconvseg.inference.slabs import Slab
from deconvseg.inference.sweep import Sweep, Volume
from deconvseg.inference.torch_engine import as_engine
from deconvseg.runs import Precision


def predict_windows(
    network: nn.Module | Engine,
    image: Tensor,
    window: Sequence[int],
    *,
    overlap: float = 0.5,
    regions: bool = False,
    tta: bool = False,
    precision: Precision = "32",
) -> Tensor:
    """Return probabilities (B, K, \\*S), on the CPU, of an image (B, C, \\*S) of any size.

    Logits are averaged over Gaussian-weighted windows. The whole result is never on the network's device, which is the
    image's unless an :class:`~deconvseg.inference.Engine` is given.

    ``overlap`` is the smallest fraction that neighbouring windows share (Deconver, section IV-A3: 0.5); ``regions``
    takes the sigmoid of each output instead of the softmax over all; ``tta`` averages the logits of each window over
    its mirrorings along all combinations of axes. An image smaller than the window is padded with zeros and cropped
    back. With the ``precision`` "bf16" a network computes in bfloat16 (:class:`~deconvseg.inference.TorchEngine`).
    Raises :class:`~deconvseg.errors.InputError` for an overlap outside [0, 1), and for a window whose number of
    dimensions is not the image's.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.inference import predict_windows
        >>> network = create_model("unet", in_channels=1, out_channels=3, spatial_dims=2, widths=[4, 8]).eval()
        >>> probabilities = predict_windows(network, torch.rand(1, 1, 50, 70), window=(32, 32))
        >>> probabilities.shape, bool(probabilities.sum(1).allclose(torch.ones(1, 50, 70)))
        (torch.Size([1, 3, 50, 70]), True)

    """
    if len(window) != image.ndim - 2:
        raise InputError(
            f"windows of {tuple(window)}: the image has the shape {tuple(image.shape)}; give a side per axis"
        )
    engine = as_engine(network, channels=image.shape[1], device=image.device, precision=precision)
    member = Member(engine, window, overlap=overlap, mirrored=range(len(window)) if tta else ())
    # The number of maps is known only after the first slab. All maps together take more than any slab's sums.
    sweep = Sweep([member], outputs=1)
    return torch.stack([_predict_sample(sweep, sample, regions) for sample in image])


def _predict_sample(sweep: Sweep, image: Tensor, regions: bool) -> Tensor:
    maps = torch.empty(0)

    def keep(slab: Slab) -> None:
        nonlocal maps
        probabilities = activate(slab.logits[0], regions)
        if len(maps) == 0:
            maps = torch.empty(len(probabilities), *image.shape[1:])
        slab.part_of(maps).copy_(probabilities)

    sweep.map(Volume.whole(image), keep)
    return maps
