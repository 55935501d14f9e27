"""MedNeXt, built by MONAI."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import register_model
from deconvseg.nn.dimensions import check_channels
from deconvseg.nn.norm import use_own_norms

_HALVINGS = 4


class _Variant(NamedTuple):
    """Numbers of blocks and channel expansions of the four encoder stages and of the bottleneck."""

    depths: Sequence[int]
    expansions: Sequence[int]
    bottleneck_depth: int
    bottleneck_expansion: int


# MedNeXt (arXiv 2303.09975), Table 1; the decoder mirrors the encoder.
_VARIANTS: Mapping[str, _Variant] = {
    "S": _Variant((2, 2, 2, 2), (2, 2, 2, 2), 2, 2),
    "B": _Variant((2, 2, 2, 2), (2, 3, 4, 4), 2, 4),
    "M": _Variant((3, 4, 4, 4), (2, 3, 4, 4), 4, 4),
    "L": _Variant((3, 4, 8, 8), (3, 4, 8, 8), 8, 8),
}


@register_model("mednext")
class MedNeXt(WrappedNetwork):
    """U-shaped ConvNeXt (MedNeXt, Roy et al., MICCAI 2023), MONAI's ``MedNeXt``.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        size: variant of the paper: ``"S"``, ``"B"``, ``"M"`` or ``"L"``.
        kernel_size: odd size of the depthwise convolutions (3 and 5 in the paper).
        init_filters: channels of the first stage; each of the four others doubles them.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of 16; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import MedNeXt
        >>> MedNeXt(1, 2, spatial_dims=2, init_filters=4)(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 2, 16, 16])

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        size: Literal["S", "B", "M", "L"] = "S",
        kernel_size: int = 3,
        init_filters: int = 32,
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        check_choice(size, _VARIANTS, "size")
        check_channels(init_filters=init_filters, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size={kernel_size!r}: a kernel needs an odd size, such as 3 or 5")
        super().__init__(
            config,
            size_multiple=[2**_HALVINGS] * spatial_dims,
        )
        from monai.networks import nets

        blocks = _VARIANTS[size]
        self.body = nets.MedNeXt(
            spatial_dims,
            init_filters,
            in_channels,
            out_channels,
            encoder_expansion_ratio=blocks.expansions,
            decoder_expansion_ratio=blocks.expansions[::-1],
            bottleneck_expansion_ratio=blocks.bottleneck_expansion,
            kernel_size=kernel_size,
            use_residual_connection=True,
            blocks_down=blocks.depths,
            blocks_bottleneck=blocks.bottleneck_depth,
            blocks_up=blocks.depths[::-1],
        )
        use_own_norms(self.body)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield narrower versions of the smallest variant, then all variants; all variants of a requested width."""
        for filters in (8, 16) if grid.width is None else ():
            yield f"S, width {filters}", {"size": "S", "init_filters": filters}
        for size in _VARIANTS:
            label = size if grid.width is None else f"{size}, width {grid.width}"
            yield label, {"size": size, "init_filters": grid.width or 32}
