"""Sizes of images."""

from collections.abc import Sequence


def finer_size(size: Sequence[int], scale: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial size of an image that is made finer by a factor for each axis."""
    return tuple([length * factor for length, factor in zip(size, scale, strict=True)])
