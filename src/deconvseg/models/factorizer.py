"""Factorizer: a U-shaped network whose blocks factorise matrices (arXiv 2202.12295)."""

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
    """Segment 2D or 3D images by nonnegative matrix factorisation of shifted windows (Ashtari et al., MedIA 2023).

    With the default arguments it is the network that Deconver's Table I compares with, 7,547,393 parameters at two
    channels and one class.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes, or regions.
        spatial_dims: 2 or 3.
        widths: channels of each encoder stage, from the full resolution down; multiples of ``head_dim``.
        depths: blocks of each encoder stage; ``None`` means one each.
        strides: downsampling before each stage: one number, one per stage (the first must be 1), one per axis, or
            a sequence per stage of one per axis; ``None`` means 2 after the first stage.
        window: positions of the windows, the same in every stage: one number or one per axis.
        shifts: how far the windows are shifted, each time on all axes or with one number per axis, 0 for not at all;
            their approximations are averaged. ``None`` means by 0, 1, 2 and 3 quarters of the window.
        head_dim: channels of a head.
        rank: of the factors.
        iterations: sweeps of HALS.
        mlp_ratio: expansion factor of the MLPs.
        image_size: the size that the learned position embedding of the lowest resolution is made for, one number or one
            per axis; it is interpolated for images of other sizes. ``None`` leaves the embedding out.
        upsampling: ``"transposed"`` (the paper's) or another, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: extra heads, one resolution further down each; used while ``deep_supervision`` is on.
        decoder_depths: blocks of each decoder stage, from the lowest resolution up; ``None`` means one each.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``, the strides times the window;
    output (B, out_channels, \\*S) or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such
    logits, highest resolution first, each one stage coarser than the one before.

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
    """Return the size of the lowest resolution, for which the position embedding is made."""
    size = per_axis(image_size, len(steps[0]), "image_size")
    multiple = tuple(math.prod(axis) for axis in zip(*steps, strict=True))
    if any(length % factor for length, factor in zip(size, multiple, strict=True)):
        raise InputError(
            f"image_size={image_size!r}: give multiples of {multiple}, all strides together, or None for no position "
            "embedding"
        )
    return tuple(length // factor for length, factor in zip(size, multiple, strict=True))
