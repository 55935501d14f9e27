"""Layers by number of spatial axes, and checks of channels, axes and per-axis values."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from deconvseg.ops.overriding import is_symbolic

CONV: dict[int, Callable[..., nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    1: ConvTranspose1d,
    2: ConvTranspose2d,
    3: ConvTranspose3d,
}


def per_axis(value: int | Sequence[int], spatial_dims: int, name: str) -> tuple[int, ...]:
    """Return one positive integer per spatial axis; :class:`InputError` if ``value`` does not fit."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * spatial_dims
    if len(values) != spatial_dims or any(not isinstance(item, int) or item < 1 for item in values):
        raise InputError(f"{name}={value!r}: give a positive integer, or {spatial_dims} of them, one per axis")
    return values


def check_channels(**channels: int) -> None:
    """Raise :class:`InputError` for numbers of channels below 1."""
    for name, value in channels.items():
        if value < 1:
            raise InputError(f"{name}={value!r}: give a positive number")


def check_image(x: Tensor, channels: int, spatial_dims: int, layer: str) -> None:
    """Raise :class:`InputError` for an input that is not (B, channels, \\*S) with the layer's number of axes."""
    if is_symbolic(x):
        return
    if x.ndim != spatial_dims + 2 or x.shape[1] != channels:
        raise InputError(
            f"{layer} got a tensor of shape {tuple(x.shape)}: give (batch, {channels} channels, {spatial_dims} spatial "
            "sizes)"
        )


def check_spatial_dims(spatial_dims: int, allowed: Sequence[int]) -> None:
    """Raise :class:`InputError` for an unsupported number of spatial axes."""
    if spatial_dims not in allowed:
        raise InputError(f"spatial_dims={spatial_dims!r}: choose from {', '.join(map(str, allowed))}")
