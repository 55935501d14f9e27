"""UNet++, built by MONAI."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import WIDTHS, Grid, Size
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import MONAI_NORMS
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import register_model
from deconvseg.nn.dimensions import check_channels
from deconvseg.nn.norm import use_own_norms

_STAGES = 5
_HEADS_OF_OTHER_NODES = ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3")


@register_model("unet_plus_plus")
class UNetPlusPlus(WrappedNetwork):
    """Nested U-Nets (UNet++, Zhou et al., DLMIA 2018), MONAI's ``BasicUNetPlusPlus`` with its last output only.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of the five stages, from the full resolution down.
        last_width: channels of the last node, before the logits.
        norm: name of the normalisation.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of 16; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import UNetPlusPlus
        >>> network = UNetPlusPlus(1, 2, spatial_dims=2, widths=(4, 4, 4, 8, 8), last_width=4)
        >>> network(torch.rand(1, 1, 32, 32)).shape
        torch.Size([1, 2, 32, 32])

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] = (32, 32, 64, 128, 256),
        last_width: int = 32,
        norm: str = "instance_affine",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        check_channels(last_width=last_width)
        check_choice(norm, MONAI_NORMS, "norm")
        if len(widths) != _STAGES or any(width < 1 for width in widths):
            raise InputError(f"widths={widths!r}: give {_STAGES} positive numbers, one per stage")
        super().__init__(
            config,
            size_multiple=[2 ** (_STAGES - 1)] * spatial_dims,
        )
        from monai.networks import nets

        # No biases, because the normalisation after each convolution cancels them.
        self.body = nets.BasicUNetPlusPlus(
            spatial_dims, in_channels, out_channels, features=(*widths, last_width), norm=MONAI_NORMS[norm], bias=False
        )
        for name in _HEADS_OF_OTHER_NODES:
            self.body.set_submodule(name, nn.Identity())
        use_own_norms(self.body)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield the widths of the network."""
        for base in grid.widths(WIDTHS[grid.kind]):
            yield f"width {base}", {"widths": [base, base, 2 * base, 4 * base, 8 * base], "last_width": base}

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of an image (B, in_channels, \\*S)."""
        self.check_input(x)
        logits: Tensor = self.body(x)[0]
        return logits.contiguous()
