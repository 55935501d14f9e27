"""SegResNet, built by MONAI."""

from collections.abc import Iterator, Sequence

from deconvseg.errors import InputError
from deconvseg.models.fitting import WIDTHS, Grid, Size
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import other_upsampling
from deconvseg.models.per_stage import check_ends, depths_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved, choose_upsampling, needs_skip

_GROUPS = 8
# Blocks per encoder stage in the paper.
_DEPTHS = (1, 2, 2, 4)


@register_model("segresnet")
class SegResNet(WrappedNetwork):
    """Residual encoder and decoder (SegResNet, Myronenko, BrainLes 2018), MONAI's ``SegResNet`` without the VAE.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        init_filters: channels of the first stage, a multiple of 8; each stage doubles them.
        depths: residual blocks per encoder stage; every stage after the first halves the size.
        decoder_depths: residual blocks per decoder stage, for one stage fewer than the encoder; ``None`` means one per
            stage.
        upsampling: ``"transposed"`` (as in the Deconver paper), ``"linear"`` (as in the SegResNet paper) or another
            kind, by name or with options (:func:`~deconvseg.nn.create_upsampling`), except kinds that take the skip
            connection (``fade``, ``sapa``), which this decoder adds instead.

    Shapes: input (B, in_channels, \\*S), every size a multiple of ``size_multiple``; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import SegResNet
        >>> SegResNet(1, 2, spatial_dims=2, init_filters=8, depths=(1, 1))(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        init_filters: int = 64,
        depths: Sequence[int] = _DEPTHS,
        decoder_depths: Sequence[int] | None = None,
        upsampling: Upsampling = "transposed",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        depths = depths_per_stage(depths, max(1, len(depths)), "depths")
        decoder_depths = depths_per_stage(decoder_depths, len(depths) - 1, "decoder_depths")
        if init_filters < 1 or init_filters % _GROUPS:
            raise InputError(f"init_filters={init_filters!r}: give a multiple of {_GROUPS}")
        super().__init__(
            config,
            size_multiple=[2 ** (len(depths) - 1)] * spatial_dims,
        )
        from monai.networks import nets

        self.body = nets.SegResNet(
            spatial_dims,
            init_filters,
            in_channels,
            out_channels,
            blocks_down=tuple(depths),
            blocks_up=tuple(decoder_depths),
            upsample_mode="deconv",
        )
        for stage, chosen in enumerate(choose_upsampling(upsampling).per_stage(len(decoder_depths))):
            name = f"up_samples.{stage}.1"
            up = other_upsampling(self.body.get_submodule(name), chosen)
            if needs_skip(up):
                raise InputError(
                    f"upsampling {upsampling!r} takes the skip connection too, which the decoder of segresnet only "
                    "adds afterwards: choose another, or another model"
                )
            self.body.set_submodule(name, up)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield the widths of the network, with the grid's number of stages."""
        # The number of stages that the longest axis allows; the other axes are padded.
        depths = list(_DEPTHS[: max(2, len(grid.strides))])
        for filters in grid.widths(WIDTHS[grid.kind]):
            yield f"width {filters}", {"init_filters": filters, "depths": depths}
