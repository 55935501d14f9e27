"""FADE: fusing the assets of decoder and encoder for upsampling (Lu et al., ECCV 2022), in 2D and 3D."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.nn.upsampling.skips import change_channels, check_skip, neighbourhood, spread
from deconvseg.ops import reassemble


@register_upsampling("fade", keeps_channels=True, adaptive=True)
class FADE(nn.Module):
    """Reassemble the input with kernels predicted from decoder and encoder features, gated by the encoder's features.

    At every output position one convolution is applied to the compressed input (at low resolution) and to the
    compressed skip connection (at high resolution). The softmax of their sum weights a neighbourhood of the input. A
    gate predicted from the input blends the result with the skip connection. 1x1 convolutions change the channels if
    they differ.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip connection; ``None`` means ``out_channels``.
        embedding: channels of the compressed features.
        kernel_size: odd size of the neighbourhood; ``None`` means 5 in 2D, as in the paper, and 3 in 3D, where 5 would
            predict 125 weights per voxel.

    Shapes: input (B, in_channels, \\*S) and (B, skip_channels, \\*(S * scale)); output
    (B, out_channels, \\*(S * scale)).

    Example:
        >>> import torch
        >>> from deconvseg.nn import FADE
        >>> layer = FADE(8, 4, scale=2, spatial_dims=2, skip_channels=6)
        >>> layer(torch.rand(1, 8, 8, 8), torch.rand(1, 6, 16, 16)).shape
        torch.Size([1, 4, 16, 16])

    """

    needs_skip = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        skip_channels: int | None = None,
        embedding: Annotated[int, Field(ge=1)] = 64,
        kernel_size: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (2, 3))
        self.in_channels = in_channels
        self.skip_channels = out_channels if skip_channels is None else skip_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.kernel_size = neighbourhood(kernel_size, spatial_dims)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0 or embedding < 1:
            raise InputError(
                f"FADE: kernel_size={self.kernel_size}, embedding={embedding}: give an odd size and a positive number"
            )
        conv = CONV[spatial_dims]

        self.project = change_channels(in_channels, out_channels, spatial_dims)
        self.project_skip = change_channels(self.skip_channels, out_channels, spatial_dims)
        self.compress = conv(out_channels, embedding, kernel_size=1)
        self.compress_skip = conv(out_channels, embedding, kernel_size=1, bias=False)
        self.kernels = conv(embedding, self.kernel_size**spatial_dims, kernel_size=3, padding=1)
        self.gate = conv(out_channels, 1, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)), the spatial size of ``skip``."""
        check_image(x, self.in_channels, len(self.scale), "FADE")
        given = check_skip(x, skip, self.skip_channels, self.scale, "FADE")
        x, skip = self.project(x), self.project_skip(given)
        logits = spread(self.kernels(self.compress(x)), self.scale) + self.kernels(self.compress_skip(skip))
        assembled = reassemble(x, torch.softmax(logits, dim=1), scale=self.scale)
        gate = spread(torch.sigmoid(self.gate(x)), self.scale)
        return assembled + gate * (skip - assembled)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}, kernel_size={self.kernel_size}"
