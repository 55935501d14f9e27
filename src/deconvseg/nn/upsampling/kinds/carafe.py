"""CARAFE: content-aware reassembly of features (Wang et al., ICCV 2019), in 2D and 3D."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.kinds.pixelshuffle import pixel_shuffle
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.nn.upsampling.skips import change_channels, neighbourhood
from deconvseg.ops import reassemble
from deconvseg.ops.torch_internals import ConvNd


@register_upsampling("carafe", keeps_channels=True, adaptive=True)
class CARAFE(nn.Module):
    """Reassemble the input with kernels predicted from the input.

    A 1x1 convolution compresses the input, and a second convolution predicts from it the weights of a neighbourhood
    for every output position, as channels that are then rearranged (Eq. 1 of the paper). Their softmax weights the
    neighbourhood of the input position (Eq. 2). A 1x1 convolution before it changes the channels if they differ.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 2 or 3.
        embedding: channels of the compressed input.
        kernel_size: odd size of the neighbourhood; ``None`` means 5 in 2D, as in the paper, and 3 in 3D, where 5 would
            predict 125 weights per voxel.
        encoder_size: odd kernel size of the convolution that predicts the weights; 3 in the paper.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).

    Example:
        >>> import torch
        >>> from deconvseg.nn import CARAFE
        >>> CARAFE(8, 4, scale=2, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 4, 16, 16])

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        embedding: Annotated[int, Field(ge=1)] = 64,
        kernel_size: Annotated[int, Field(ge=1)] | None = None,
        encoder_size: Annotated[int, Field(ge=1)] = 3,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (2, 3))
        self.in_channels = in_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.kernel_size = neighbourhood(kernel_size, spatial_dims)
        if self.kernel_size % 2 == 0 or encoder_size % 2 == 0 or min(self.kernel_size, encoder_size, embedding) < 1:
            raise InputError(
                f"CARAFE: kernel_size={self.kernel_size}, encoder_size={encoder_size}, embedding={embedding}: give odd "
                "sizes and a positive number"
            )
        conv = CONV[spatial_dims]
        self.project = change_channels(in_channels, out_channels, spatial_dims)
        self.compress = conv(out_channels, embedding, kernel_size=1)
        predicted = self.kernel_size**spatial_dims * math.prod(self.scale)
        self.kernels = conv(embedding, predicted, kernel_size=encoder_size, padding=encoder_size // 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the initial kernels are almost the mean of the neighbourhood."""
        for layer in (self.project, self.compress):
            if isinstance(layer, ConvNd):
                layer.reset_parameters()
        nn.init.normal_(self.kernels.weight, std=0.001)
        if self.kernels.bias is not None:
            nn.init.zeros_(self.kernels.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale))."""
        check_image(x, self.in_channels, len(self.scale), "CARAFE")
        x = self.project(x)
        logits = pixel_shuffle(self.kernels(self.compress(x)), self.scale)
        return reassemble(x, torch.softmax(logits, dim=1), scale=self.scale)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}, kernel_size={self.kernel_size}"
