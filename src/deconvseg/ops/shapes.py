"""Sizes of images."""

from collections.abc import Sequence


def finer_size(size: Sequence[int], scale: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial size of an image after upsampling by one factor per axis."""
    return tuple([length * factor for length, factor in zip(size, scale, strict=True)])


def convolved_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> list[int]:
    """Return the spatial size of a convolution's output."""
    axes = zip(size, kernel, stride, padding, strict=True)
    return [(length + 2 * pad - taps) // step + 1 for length, taps, step, pad in axes]
