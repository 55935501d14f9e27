"""Deconver: a U-shaped network of nonnegative deconvolution blocks (arXiv 2504.00302, section III-C)."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from deconvseg.models.fitting import Grid, Size, fit_stages
from deconvseg.models.per_stage import PerStage, check_sizes, depths_per_stage, kernels_per_stage, strides_per_stage
from deconvseg.models.registry import register_model
from deconvseg.models.u_shape import UShapedNetwork
from deconvseg.nn import DeconverBlock
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved

# On a CPU the cost of larger NDC filters outweighs their gain (Tables I-III).
_CPU_FILTER, _FILTERS = 3, {2: 5, 3: 3}


@register_model("deconver")
class Deconver(UShapedNetwork):
    """U-shaped network with learned nonnegative deconvolution, for 2D and 3D images (Deconver, arXiv 2504.00302).

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each encoder stage, from the full resolution down.
        depths: blocks per encoder stage; ``None`` means one per stage.
        strides: downsampling before each stage: one number, one per stage (the first must be 1), one per axis, or per
            stage a sequence with one number per axis; ``None`` means 2 after the first stage. A flat sequence as long
            as ``widths`` is read as one number per stage.
        kernel_size: odd NDC filter size: one number, one per axis, one per stage, or per stage a sequence with one
            number per axis; ``None`` means 3 in 3D and 5 in 2D. A flat sequence of ``spatial_dims`` numbers is read as
            one number per axis.
        ratio: source channels per channel, R.
        groups: NDC groups G; ``None`` means one group per channel.
        eps: the constant of the NDC update (Eq. 7).
        iterations: NDC updates in each block.
        mlp_ratio: expansion factor of the MLPs, α.
        norm: name of the normalisation before the mixers and MLPs.
        upsampling: ``"transposed"`` (as in the paper) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.
        decoder_depths: blocks per decoder stage, from the lowest resolution up; ``None`` means one per stage.
        mixing: what computes the source in each block: ``"ndc"``, or for an ablation ``"depthwise"``
            (:class:`~deconvseg.nn.DepthwiseSource`).

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``; output (B, out_channels, \\*S)
    or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, from the highest
    resolution down, one per stage.

    Example:
        >>> import torch
        >>> from deconvseg.models import Deconver
        >>> network = Deconver(1, 2, spatial_dims=2, widths=(8, 16), upsampling="dtc+transposed")
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
        kernel_size: PerStage | None = None,
        ratio: float = 4,
        groups: int | None = None,
        eps: float = 1e-8,
        iterations: int = 1,
        mlp_ratio: float = 4,
        norm: str = "instance",
        upsampling: Upsampling = "transposed",
        deep_supervision_heads: int = 0,
        decoder_depths: Sequence[int] | None = None,
        mixing: str = "ndc",
    ) -> None:
        if kernel_size is None:
            kernel_size = _FILTERS.get(spatial_dims, 5)
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        stages = len(widths)
        steps = strides_per_stage(2 if strides is None else strides, spatial_dims, stages)
        kernels = kernels_per_stage(kernel_size, spatial_dims, stages)
        options: dict[str, Any] = {"ratio": ratio, "groups": groups, "iterations": iterations, "eps": eps}
        options |= {"mlp_ratio": mlp_ratio, "norm": norm, "mixing": mixing}

        def blocks(stage: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(DeconverBlock(widths[stage], kernels[stage], **options) for _ in range(depth)))

        super().__init__(
            config,
            widths=widths,
            steps=steps,
            depths=depths_per_stage(depths, stages, "depths"),
            decoder_depths=depths_per_stage(decoder_depths, stages - 1, "decoder_depths"),
            blocks=blocks,
            upsampling=upsampling,
        )

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield sizes with the stages of the grid, and with filters of 3 on a CPU."""
        filters = _CPU_FILTER if grid.kind == "cpu" else _FILTERS[grid.seen_dims] if grid.anisotropic else None
        return fit_stages(cls, grid, patch, kernel_size=filters)
