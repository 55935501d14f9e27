"""PyTorch's convolutions, computed natively where that is faster: the same arguments, parameters and results."""

import torch
from torch import Tensor, nn

from deconvseg.nn.fusion import has_own_methods
from deconvseg.ops.backends import Choice
from deconvseg.ops.conv import choose_conv, choose_conv_transpose, conv, conv_transpose
from deconvseg.ops.layout import CHANNELS_LAST, channels_last
from deconvseg.ops.overriding import is_symbolic
from deconvseg.ops.torch_internals import ConvNd, ConvTransposeNd

_PLAIN = "dilations, groups and paddings of other kinds are PyTorch's"


class _Conv(ConvNd):
    """A convolution by :func:`deconvseg.ops.conv.conv`, where it is one with zero padding and one group."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Not `forward`: other code replaces that of PyTorch's class, or this method of one layer, to change a layer.
        unbatched = not is_symbolic(input) and input.ndim != weight.ndim
        if self.is_special() or unbatched or torch.compiler.is_compiling() or not has_own_methods(type(self)):
            out: Tensor = super()._conv_forward(input, weight, bias)
            return out
        return conv(input, weight, bias, stride=self.stride, padding=self._zeros())

    def explain_backend(self) -> Choice:
        """Choose for an image as large as the kernel, without a gradient, with the channels innermost in memory."""
        reason, padding = (_PLAIN, ()) if self.is_special() else (None, self._zeros())
        return choose_conv(_image(self), self.weight, self.bias, stride=self.stride, padding=padding, reason=reason)

    def is_special(self) -> bool:
        """Return whether its settings leave it to PyTorch."""
        dilated = any(step != 1 for step in self.dilation)
        return dilated or self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str)

    def _zeros(self) -> tuple[int, ...]:
        return tuple(int(pad) for pad in self.padding)


class _ConvTranspose(ConvTransposeNd):
    """A transposed convolution by :func:`deconvseg.ops.conv.conv_transpose`, where it has no padding and one group."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve (B, I, \\*S), transposed."""
        unbatched = not is_symbolic(input) and input.ndim != self.weight.ndim
        special = self.is_special() or output_size is not None or unbatched
        if special or torch.compiler.is_compiling() or not has_own_methods(type(self)):
            out: Tensor = super().forward(input, output_size)
            return out
        return conv_transpose(input, self.weight, self.bias, stride=self.stride)

    def explain_backend(self) -> Choice:
        """Choose for an image as large as the kernel, without a gradient, with the channels innermost in memory."""
        return self.choose(_image(self))

    def choose(self, x: Tensor) -> Choice:
        """Choose for an image."""
        reason = _PLAIN if self.is_special() else None
        return choose_conv_transpose(x, self.weight, self.bias, stride=self.stride, reason=reason)

    def is_special(self) -> bool:
        """Return whether its settings leave it to PyTorch."""
        dilated = any(step != 1 for step in self.dilation)
        return dilated or self.groups != 1 or any((*self.padding, *self.output_padding))


def _image(layer: ConvNd) -> Tensor:
    image = layer.weight.new_empty((1, layer.in_channels, *layer.kernel_size))
    return channels_last(image) if image.ndim in CHANNELS_LAST else image


class Conv1d(_Conv, nn.Conv1d):
    """``torch.nn.Conv1d``."""


class Conv2d(_Conv, nn.Conv2d):
    """``torch.nn.Conv2d``."""


class Conv3d(_Conv, nn.Conv3d):
    """``torch.nn.Conv3d``."""


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d``."""


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d``."""


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d``."""
