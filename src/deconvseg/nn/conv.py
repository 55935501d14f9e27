"""PyTorch's convolutions with native kernels where they are faster; same arguments, parameters and results."""

from torch import Tensor, nn

from deconvseg.nn.fusion import Fusible, has_own_methods
from deconvseg.ops.backends import Choice
from deconvseg.ops.conv import choose_conv, choose_conv_transpose, conv, conv_transpose, has_transpose_kernel
from deconvseg.ops.layout import CHANNELS_LAST, channels_last
from deconvseg.ops.overriding import is_symbolic
from deconvseg.ops.torch_internals import ConvNd, ConvTransposeNd

_PLAIN = "PyTorch computes dilations, groups and other kinds of padding"


class _Conv(Fusible, ConvNd):
    """A convolution that uses :func:`deconvseg.ops.conv.conv` if it has zero padding and one group."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Not `forward`, because other code may replace `forward` of PyTorch's class, or this method of a layer.
        unbatched = not is_symbolic(input) and input.ndim != weight.ndim
        if self.is_special() or unbatched or not has_own_methods(type(self)):
            out: Tensor = super()._conv_forward(input, weight, bias)
            return out
        return conv(input, weight, bias, stride=self.stride, padding=self._zeros())

    def explain_backend(self) -> Choice:
        """Return the backend for an image of the kernel's size, without a gradient, in channels-last format."""
        reason, padding = (_PLAIN, ()) if self.is_special() else (None, self._zeros())
        return choose_conv(_image(self), self.weight, self.bias, stride=self.stride, padding=padding, reason=reason)

    def is_special(self) -> bool:
        """Return whether only PyTorch supports the settings of the layer."""
        dilated = any(step != 1 for step in self.dilation)
        return dilated or self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str)

    def _zeros(self) -> tuple[int, ...]:
        return tuple(int(pad) for pad in self.padding)


class _ConvTranspose(Fusible, ConvTransposeNd):
    """A transposed convolution by :func:`deconvseg.ops.conv.conv_transpose` if it has no padding and one group."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply the transposed convolution to (B, I, \\*S)."""
        unbatched = not is_symbolic(input) and input.ndim != self.weight.ndim
        special = self.is_special() or output_size is not None or unbatched
        if special or not has_own_methods(type(self)):
            out: Tensor = super().forward(input, output_size)
            return out
        return conv_transpose(input, self.weight, self.bias, stride=self.stride)

    def explain_backend(self) -> Choice:
        """Return the backend for an image of the kernel's size, without a gradient, in channels-last format."""
        reason = _PLAIN if self.is_special() else None
        return choose_conv_transpose(_image(self), self.weight, self.bias, stride=self.stride, reason=reason)

    def has_kernel(self, x: Tensor) -> bool:
        """Return whether a kernel transforms an image, rather than PyTorch."""
        return not self.is_special() and has_transpose_kernel(x, self.weight, self.bias, stride=self.stride)

    def is_special(self) -> bool:
        """Return whether only PyTorch supports the settings of the layer."""
        dilated = any(step != 1 for step in self.dilation)
        return dilated or self.groups != 1 or any((*self.padding, *self.output_padding))


def _image(layer: ConvNd) -> Tensor:
    image = layer.weight.new_empty((1, layer.in_channels, *layer.kernel_size))
    return channels_last(image) if image.ndim in CHANNELS_LAST else image


class Conv1d(_Conv, nn.Conv1d):
    """``torch.nn.Conv1d`` with native kernels."""


class Conv2d(_Conv, nn.Conv2d):
    """``torch.nn.Conv2d`` with native kernels."""


class Conv3d(_Conv, nn.Conv3d):
    """``torch.nn.Conv3d`` with native kernels."""


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` with native kernels."""


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` with native kernels."""


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` with native kernels."""
