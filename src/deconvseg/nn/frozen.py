"""Layers whose weights no longer change, for inference on a CPU with the channels innermost in memory.

They are PyTorch's own layers with another way to compute the same, to rounding: :func:`freeze` changes the class of a
layer and nothing else, so that names, weights and settings stay where other code looks for them.
"""

from collections.abc import Mapping
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from deconvseg.nn.conv import Conv2d, Conv3d
from deconvseg.nn.fusion import is_watched, why_special
from deconvseg.nn.norm import AffineInstanceNorm, InstanceNorm
from deconvseg.ops.backends import Choice, why_not_native
from deconvseg.ops.conv import conv_transpose
from deconvseg.ops.instance_norm import instance_norm, instance_norm_
from deconvseg.ops.layout import channels_last
from deconvseg.ops.winograd import choose_packing, pack_weight, winograd_conv


class _Frozen(nn.modules.conv._ConvNd):
    """A convolution that brings the channels of its image innermost, and leaves them there."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, I, \\*S)."""
        if input.ndim != self.weight.ndim:
            return cast(Tensor, super().forward(input))
        x = channels_last(input)
        padding, special = self.padding, self.padding_mode != "zeros" or x.dtype != torch.float32
        if special or isinstance(padding, str) or not torch._C._has_mkldnn or why_not_native(x, self.weight):
            return cast(Tensor, super().forward(x))
        # For few channels or few threads PyTorch would take other kernels, which are slow with the channels innermost.
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)


class _Winograd(nn.modules.conv._ConvNd):
    """A convolution by :func:`deconvseg.ops.winograd.winograd_conv`, its weights packed once."""

    packed: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, I, \\*S)."""
        if input.ndim == self.weight.ndim:
            return winograd_conv(input, self.weight, self.packed, self.bias)
        out: Tensor = super().forward(input)
        return out

    def explain_backend(self) -> Choice:
        """Choose for an image without a gradient."""
        return choose_packing(self.weight)


class _FrozenTranspose(nn.modules.conv._ConvTransposeNd):
    """A transposed convolution with kernels as large as strides, by :func:`deconvseg.ops.conv.conv_transpose`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve (B, I, \\*S), transposed."""
        if output_size is None and input.ndim == self.weight.ndim:
            return conv_transpose(channels_last(input), self.weight, self.bias, stride=self.stride)
        out: Tensor = super().forward(input, output_size)
        return out


class FrozenConv2d(_Frozen, nn.Conv2d):
    """``torch.nn.Conv2d``."""


class FrozenConv3d(_Frozen, nn.Conv3d):
    """``torch.nn.Conv3d``."""


class WinogradConv2d(_Winograd, nn.Conv2d):
    """``torch.nn.Conv2d`` with kernels of 3 and stride 1."""


class WinogradConv3d(_Winograd, nn.Conv3d):
    """``torch.nn.Conv3d`` with kernels of 3, or of 1 x 3 x 3, and stride 1."""


class FrozenConvTranspose2d(_FrozenTranspose, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d``."""


class FrozenConvTranspose3d(_FrozenTranspose, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d``."""


class FusedSequential(nn.Sequential):
    """Layers in sequence; an instance normalisation and the rectifier behind it pass over memory once."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply all layers."""
        x, layers, position, private = input, list(self), 0, False
        watched = is_watched()
        while position < len(layers):
            layer, position = layers[position], position + 1
            if isinstance(layer, InstanceNorm) and not watched and why_special(layer, _NORMS) is None:
                slope = _slope(layers[position]) if position < len(layers) else None
                position += slope is not None
                # What a convolution has just made nobody else has seen, so that it may be changed in its place.
                normalise = instance_norm_ if private else instance_norm
                x = normalise(x, layer.weight, layer.bias, eps=layer.eps, negative_slope=slope)
            else:
                x = layer(x)
            private = why_special(layer, _CONVOLUTIONS) is None
        return x


_NORMS = InstanceNorm, AffineInstanceNorm
_CONVOLUTIONS = FrozenConv2d, FrozenConv3d, WinogradConv2d, WinogradConv3d
_Kinds: TypeAlias = Mapping[type[nn.Module], type[nn.Module]]
# Only PyTorch's very classes and ours of the same meaning: another subclass may compute something else.
_WINOGRAD: _Kinds = {
    nn.Conv2d: WinogradConv2d,
    nn.Conv3d: WinogradConv3d,
    Conv2d: WinogradConv2d,
    Conv3d: WinogradConv3d,
}
_OTHERS: _Kinds = {
    nn.Conv2d: FrozenConv2d,
    nn.Conv3d: FrozenConv3d,
    nn.ConvTranspose2d: FrozenConvTranspose2d,
    nn.ConvTranspose3d: FrozenConvTranspose3d,
    nn.Sequential: FusedSequential,
}


def fits_winograd(layer: nn.Module) -> bool:
    """Say whether a layer is a convolution of stride 1, with zeros around the image, that the kernels take."""
    if type(layer) not in _WINOGRAD:
        return False
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    once = set(layer.stride) == set(layer.dilation) == {layer.groups} == {1} and layer.padding_mode == "zeros"
    centred = layer.padding in ("same", tuple(length // 2 for length in layer.kernel_size))
    return once and centred and choose_packing(layer.weight).backend == "native"


def freeze(layer: nn.Module) -> None:
    """Let a convolution, or a ``nn.Sequential`` of such layers, compute faster as long as its weights stay as they are.

    Any other layer stays what it is.
    """
    if isinstance(layer, nn.Conv2d | nn.Conv3d) and fits_winograd(layer):
        layer.register_buffer("packed", pack_weight(layer.weight), persistent=False)
        _change_class(layer, _WINOGRAD)
    elif not isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d) or _tiles(layer):
        _change_class(layer, _OTHERS)
        if isinstance(layer, FrozenConv2d | FrozenConv3d):
            layer.weight.data = channels_last(layer.weight.data)


def _change_class(layer: nn.Module, kinds: _Kinds) -> None:
    layer.__class__ = kinds.get(type(layer), type(layer))


def _tiles(layer: nn.ConvTranspose2d | nn.ConvTranspose3d) -> bool:
    """Say whether each voxel of the result of a transposed convolution comes from one voxel of the image."""
    others = {*layer.padding, *layer.output_padding} == {0} and {*layer.dilation, layer.groups} == {1}
    return others and layer.stride == layer.kernel_size


def _slope(layer: nn.Module) -> float | None:
    """Return what a rectifier multiplies values below zero by, or None for another layer."""
    if why_special(layer, (nn.LeakyReLU, nn.ReLU)) is not None:
        return None
    return layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
