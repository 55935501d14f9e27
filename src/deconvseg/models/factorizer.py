"""Factorizer: a U-shaped network of matrix factorisation blocks (arXiv 2202.12295)."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from deconvseg.errors import InputError
from deconvseg.models.per_stage import PerStage, check_sizes, depths_per_stage, strides_per_stage
from deconvseg.models.registry import register_model
from deconvseg.models.u_shape import UShapedNetwork
from deconvseg.nn.dimensions import per_axis
from deconvseg.nn.factorizer import FactorizerBlock, PositionEmbedding
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved


@register_model("factorizer")
class Factorizer(UShapedNetwork):
    """U-shaped network with nonnegative matrix factorisation of windows (Factorizer, Ashtari et al., MedIA 2023).

    The default arguments give the network in Deconver's Table I, with 7,547,393 parameters for two input channels and
    one output.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each encoder stage, from the full resolution down; multiples of ``head_dim``.
        depths: blocks per encoder stage; ``None`` means one per stage.
        strides: downsampling before each stage: one number, one per stage (the first must be 1), one per axis, or per
            stage a sequence with one number per axis; ``None`` means 2 after the first stage.
        window: window size in positions, the same in every stage: one number or one per axis.
        shifts: shifts of the windows, each one number or one per axis, 0 for no shift; the approximations are averaged.
            ``None`` means shifts by 0, 1, 2 and 3 quarters of the window.
        head_dim: channels per head.
        rank: rank of the factorisation.
        iterations: sweeps of HALS.
        mlp_ratio: expansion factor of the MLPs.
        image_size: image size for the learned position embedding of the lowest resolution, one number or one per axis;
            the embedding is interpolated for other sizes. ``None`` omits the embedding.
        upsampling: ``"transposed"`` (as in the paper) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.
        decoder_depths: blocks per decoder stage, from the lowest resolution up; ``None`` means one per stage.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple`` (the product of strides and
    window); output (B, out_channels, \\*S) or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads +
    1`` such logits, from the highest resolution down, one per stage.

    Example:
        >>> import torch
        >>> from deconvseg.models import Factorizer
        >>> network = Factorizer(1, 2, spatial_dims=2, widths=(8, 16), image_size=None)
        >>> network(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] | None = None,
        strides: PerStage | None = None,
        window: int | Sequence[int] = 4,
        shifts: Sequence[int | Sequence[int]] | None = None,
        head_dim: int = 8,
        rank: int = 1,
        iterations: int = 5,
        mlp_ratio: float = 4,
        image_size: int | Sequence[int] | None = 64,
        upsampling: Upsampling = "transposed",
        deep_supervision_heads: int = 0,
        decoder_depths: Sequence[int] | None = None,
    ) -> None:
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        stages = len(widths)
        steps = strides_per_stage(2 if strides is None else strides, spatial_dims, stages)
        positions = None if image_size is None else _positions(image_size, steps)
        options: dict[str, Any] = {"window": window, "shifts": shifts, "head_dim": head_dim, "rank": rank}
        options |= {"iterations": iterations, "mlp_ratio": mlp_ratio, "spatial_dims": spatial_dims}

        def blocks(stage: int, depth: int) -> nn.Sequential:
            made: list[nn.Module] = [FactorizerBlock(widths[stage], **options) for _ in range(depth)]
            if stage == stages - 1 and positions is not None:
                made.insert(0, PositionEmbedding(widths[stage], positions))
            return nn.Sequential(*made)

        super().__init__(
            config,
            widths=widths,
            steps=steps,
            depths=depths_per_stage(depths, stages, "depths"),
            decoder_depths=depths_per_stage(decoder_depths, stages - 1, "decoder_depths"),
            blocks=blocks,
            upsampling=upsampling,
            window=per_axis(window, spatial_dims, "window"),
        )


def _positions(image_size: int | Sequence[int], steps: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the size of the lowest resolution, which is that of the position embedding."""
    size = per_axis(image_size, len(steps[0]), "image_size")
    multiple = tuple(math.prod(axis) for axis in zip(*steps, strict=True))
    if any(length % factor for length, factor in zip(size, multiple, strict=True)):
        raise InputError(
            f"image_size={image_size!r}: give multiples of {multiple}, the product of strides, or None for no position "
            "embedding"
        )
    return tuple(length // factor for length, factor in zip(size, multiple, strict=True))
