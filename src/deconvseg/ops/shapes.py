"""Sizes of images."""

from collections.abc import Sequence


def finer_size(size: Sequence[int], scale: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial size of an image that is made finer by a factor for each axis."""
    return tuple([length * factor for length, factor in zip(size, scale, strict=True)])


def convolved_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> list[int]:
    """Return the spatial size that a convolution makes."""
    axes = zip(size, kernel, stride, padding, strict=True)
    return [(length + 2 * pad - taps) // step + 1 for length, taps, step, pad in axes]
