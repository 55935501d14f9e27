"""SAPA: similarity-aware point affiliation for upsampling (Lu et al., NeurIPS 2022), in 2D and 3D."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.options import check_options
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.nn.upsampling.skips import change_channels, check_skip, neighbourhood, spread
from deconvseg.ops import compare_neighbours, reassemble


@register_upsampling("sapa", keeps_channels=True, adaptive=True)
class SAPA(nn.Module):
    """Average the neighbours of the input that are similar to the encoder's features at each output position.

    The features of the encoder (queries, at high resolution) and of the decoder (keys, at low resolution) are
    normalised over their channels. The softmax of their similarities over a neighbourhood weights the input. Its
    values lie within those of the neighbourhood, and no weight is predicted by a convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip connection; ``None`` means ``out_channels``.
        similarity: ``"inner"`` (inner product), ``"bilinear"`` (inner product of two 1x1 convolutions with
            ``embedding`` channels) or ``"gated"`` (bilinear, with queries blended from encoder and decoder by a gate
            that is predicted from the decoder): the paper's SAPA-I, SAPA-B and SAPA-G.
        embedding: channels in which features are compared; not used by ``"inner"``.
        kernel_size: odd size of the neighbourhood; ``None`` means 5 in 2D, as in the paper, and 3 in 3D.

    Shapes: input (B, in_channels, \\*S) and (B, skip_channels, \\*(S * scale)); output
    (B, out_channels, \\*(S * scale)).

    Example:
        >>> import torch
        >>> from deconvseg.nn import SAPA
        >>> layer = SAPA(8, 4, scale=2, spatial_dims=2, skip_channels=6)
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
        similarity: Literal["inner", "bilinear", "gated"] = "bilinear",
        embedding: Annotated[int, Field(ge=1)] = 32,
        kernel_size: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (2, 3))
        check_options(SAPA, similarity=similarity)
        self.in_channels = in_channels
        self.skip_channels = out_channels if skip_channels is None else skip_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.kernel_size = neighbourhood(kernel_size, spatial_dims)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0 or embedding < 1:
            raise InputError(
                f"SAPA: kernel_size={self.kernel_size}, embedding={embedding}: give an odd size and a positive number"
            )
        self.similarity = similarity
        conv = CONV[spatial_dims]

        self.project = change_channels(in_channels, out_channels, spatial_dims)
        # Inner products need as many channels on both sides.
        compared = out_channels if similarity == "inner" else self.skip_channels
        self.project_skip = change_channels(self.skip_channels, compared, spatial_dims)
        self.norm = _norm(out_channels)
        self.norm_skip = _norm(compared)
        if similarity != "inner":
            self.keys = conv(out_channels, embedding, kernel_size=1)
            self.queries = conv(compared, embedding, kernel_size=1)
        if similarity == "gated":
            self.gate = conv(out_channels, 1, kernel_size=1)
            self.own_queries = conv(out_channels, embedding, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)), the spatial size of ``skip``."""
        check_image(x, self.in_channels, len(self.scale), "SAPA")
        given = check_skip(x, skip, self.skip_channels, self.scale, "SAPA")
        x = self.project(x)
        low = _over_channels(self.norm, x)
        queries = _over_channels(self.norm_skip, self.project_skip(given))
        keys = low
        if self.similarity != "inner":
            keys, queries = self.keys(low), self.queries(queries)
        if self.similarity == "gated":
            gate = spread(torch.sigmoid(self.gate(low)), self.scale)
            queries = gate * queries + (1 - gate) * spread(self.own_queries(low), self.scale)
        logits = compare_neighbours(queries, keys, scale=self.scale, kernel_size=self.kernel_size)
        return reassemble(x, torch.softmax(logits, dim=1), scale=self.scale)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}, similarity={self.similarity!r}, kernel_size={self.kernel_size}"


def _norm(channels: int) -> nn.Module:
    # A single channel would be normalised to zero.
    return nn.LayerNorm(channels) if channels > 1 else nn.Identity()


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = norm(x.movedim(1, -1)).movedim(-1, 1)
    return out
