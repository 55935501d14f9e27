"""Sizes of a network for the planner: from ``Network.fitted``, or from a registered function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from deconvseg.errors import InputError
from deconvseg.models import DeviceKind, Grid, Size, create_model, fit_model, list_arguments, list_models

Fitting = Callable[[Grid, Sequence[int]], Iterator[Size]]

# Every network accepts an image of this many voxels along each axis.
_PROBE = 64

_FITTINGS: dict[str, Fitting] = {}


def register_fitting(name: str) -> Callable[[Fitting], Fitting]:
    """Register a function that replaces ``Network.fitted`` for the network of this name.

    The function takes the plan's :class:`Grid` and a patch, and yields (label, constructor arguments without channels
    and axes), narrowest first.

    Example:
        >>> from deconvseg.planning import register_fitting
        >>> @register_fitting("mine")
        ... def fit(grid, patch):
        ...     for width in (8, 16, 32):
        ...         yield f"width {width}", {"width": width}
        >>> next(fit(None, (64, 64)))
        ('width 8', {'width': 8})

    """

    def register(fitting: Fitting) -> Fitting:
        _FITTINGS[name] = fitting
        return fitting

    return register


def check_fittable(model: str, width: int | None = None) -> None:
    """Raise an :class:`InputError` for a network that cannot be fitted, or not to a ``width``."""
    usual = probing_grid(3)
    sizes = list(_sizes(model, usual, (_PROBE,) * 3))
    if width is not None and list(_sizes(model, replace(usual, width=width), (_PROBE,) * 3)) == sizes:
        raise InputError(
            f"`width={width}`: model {model!r} has sizes of its own ({', '.join(label for label, _ in sizes)}) and no "
            "width to choose; leave it out, or change the network's arguments in `values`"
        )


def probing_grid(spatial_dims: int, kind: DeviceKind = "cpu") -> Grid:
    """Return a grid of two stages and 64 voxels an axis, to ask a network what it would be like."""
    every = (True,) * spatial_dims
    return Grid(kind, (_PROBE,) * spatial_dims, False, ((1,) * spatial_dims, (2,) * spatial_dims), (every, every))


def fit_network(model: str, ends: Mapping[str, Any], grid: Grid) -> tuple[tuple[int, ...], list[Size]]:
    """Return a patch size that the network accepts, and its sizes with all constructor arguments, narrowest first.

    ``ends`` are the arguments for channels and axes. Raises :class:`InputError` if slices are requested for a network
    that downsamples along every axis.
    """
    probe = [1 if axis == grid.slices else _PROBE for axis in range(len(grid.sizes))]
    _, arguments = next(_sizes(model, grid, probe))
    with torch.device("meta"):
        multiple = create_model(model, **ends, **arguments).size_multiple
    if grid.slices is not None and multiple[grid.slices] > 1:
        fitted = ", ".join(name for name in list_models() if {"widths", "strides"} <= set(list_arguments(name)))
        raise InputError(
            f"model {model!r} downsamples along every axis, so it cannot work on 2D slices of a volume: "
            f"use `dims=3`, or one of {fitted}"
        )
    patch = grid.patch(multiple)
    return patch, [(label, {**ends, **arguments}) for label, arguments in _sizes(model, grid, patch)]


def typical_network(model: str, spatial_dims: int, width: int | None = None) -> dict[str, Any]:
    """Return constructor arguments of a network, without channels and axes, as a planner may give them."""
    grid = replace(probing_grid(spatial_dims), width=width)
    return next(_sizes(model, grid, [_PROBE] * spatial_dims))[1]


def _sizes(model: str, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    return _FITTINGS[model](grid, patch) if model in _FITTINGS else fit_model(model, grid, patch)
