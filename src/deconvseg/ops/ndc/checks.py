"""Checks of the deconvolution operators' inputs; errors name the shapes."""

from torch import Tensor

from deconvseg.errors import InputError


def check_filters(filters: Tensor, groups: int) -> None:
    """Raise :class:`InputError` for filters that are not (C, E/groups, \\*K) with one to three odd sizes K."""
    shape = tuple(filters.shape)
    if not 3 <= filters.ndim <= 5:
        raise InputError(f"filters of shape {shape}: give (C, E/groups, *K) with one to three kernel axes")
    if any(size % 2 == 0 for size in shape[2:]):
        raise InputError(f"filters of shape {shape}: kernel size {shape[2:]} must be odd on every axis, such as 3 or 5")
    if groups < 1 or shape[0] % groups:
        raise InputError(f"groups={groups} does not divide the {shape[0]} channels of the filters: choose a divisor")


def check_source(source: Tensor, filters: Tensor, groups: int) -> None:
    """Raise :class:`InputError` for a source that is not (B, E, \\*S) for these filters."""
    channels = filters.shape[1] * groups
    if source.ndim != filters.ndim or source.shape[1] != channels:
        raise InputError(
            f"source of shape {tuple(source.shape)} does not fit filters of shape {tuple(filters.shape)} with "
            f"groups={groups}: give (B, {channels}, *S) with {filters.ndim - 2} spatial axes"
        )


def check_image(x: Tensor, filters: Tensor) -> None:
    """Raise :class:`InputError` for an image that is not (B, C, \\*S) for these filters."""
    if x.ndim != filters.ndim or x.shape[1] != filters.shape[0]:
        raise InputError(
            f"x of shape {tuple(x.shape)} does not fit filters of shape {tuple(filters.shape)}: "
            f"give (B, {filters.shape[0]}, *S) with {filters.ndim - 2} spatial axes"
        )


def check_problem(x: Tensor, source: Tensor, filters: Tensor, groups: int) -> None:
    """Raise :class:`InputError` if image, source and filters do not fit each other."""
    check_filters(filters, groups)
    check_image(x, filters)
    check_source(source, filters, groups)
    if x.shape[0] != source.shape[0] or x.shape[2:] != source.shape[2:]:
        raise InputError(
            f"x of shape {tuple(x.shape)} and source of shape {tuple(source.shape)}: "
            "make their batch and spatial sizes the same"
        )
