"""The figure of sampling maps, one row each."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvseg.errors import InputError
from deconvseg.reporting.sampling.maps import SamplingMap
from deconvseg.reporting.sampling.views import View
from deconvseg.reporting.style import INK, MUTED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTLINE, _ARROW = "#facc15", "#22d3ee"
# The colours of densities span at least this much on each side of 1.
_NARROWEST = 0.05
# Arrows are enlarged by one of these numbers, so that long ones are about as long as their distance.
_FACTORS = (1, 2, 5, 10, 20, 50, 100)


def draw_sampling(maps: Mapping[str, SamplingMap]) -> "Figure":
    """Return a figure with one row for each map: the image, the positions, their density, and their displacement.

    The image has the outline of the map's mask. Positions are white points on black, as in DTC's Fig. 7 (arXiv
    2601.17939). The density is relative to linear interpolation, which reads every pixel equally. Arrows lead from the
    positions of linear interpolation to the learned ones, averaged over squares and enlarged if the title says so. In
    3D everything is shown in the axial slice of the map. ``maps`` has the titles of the rows. Raises
    :class:`~deconvseg.errors.InputError` without maps.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.reporting import draw_sampling, sampling_map
        >>> network = create_model(
        ...     "unet", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8], upsampling="dtc"
        ... ).eval()
        >>> found = sampling_map(network, torch.rand(1, 1, 32, 32))
        >>> draw_sampling({"U-Net": found}).savefig("sampling.png")

    """
    if not maps:
        raise InputError("there is no sampling map to show; give at least one")
    views = {name: View.of(drawn) for name, drawn in maps.items()}
    shapes = [view.picture.shape[:2] for view in views.values()]
    heights = [min(height / width, 2) for height, width in shapes]
    figure = new_figure(12.6, 3.0 * sum(heights) + 0.75 * len(maps) + 0.1)
    rows = figure.subfigures(len(maps), 1, squeeze=False, height_ratios=[height + 0.25 for height in heights])
    for (part,), (name, drawn) in zip(rows, maps.items(), strict=True):
        _draw_row(part, name, drawn, views[name])
    return figure


def _draw_row(figure: Any, name: str, drawn: SamplingMap, view: View) -> None:
    pictured, scattered, overlaid, moved = figure.subplots(1, 4)
    height, width = view.picture.shape[:2]
    frame = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "nearest"}
    pictured.imshow(view.picture, **frame)
    if view.mask is not None and view.mask.any() and not view.mask.all():
        pictured.contour(view.mask, [0.5], colors=_OUTLINE, linewidths=1.1)
    _scatter(scattered, view)
    _shade(figure, overlaid, view, frame)
    factor = _draw_arrows(moved, view, frame)
    where = drawn.title or ("Image" if drawn.slice is None else f"Image, slice {drawn.slice}")
    titles = (
        *(where, "Positions", "Density (linear interpolation: 1)"),
        "Displacement" if factor == 1 else f"Displacement, arrows {factor} times longer",
    )
    for axes, title in zip((pictured, scattered, overlaid, moved), titles, strict=True):
        axes.set_title(plain(title, 48), fontsize=9.5, color=MUTED)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    figure.suptitle(plain(name, 100), fontsize=11, fontweight="bold", color=INK)
    figure.supxlabel(f"{drawn}" if name == drawn.layer else f"{drawn.layer}: {drawn}", fontsize=9, color=MUTED)


def _scatter(axes: Any, view: View) -> None:
    height, width = view.picture.shape[:2]
    axes.set_facecolor("black")
    # About half the distance between the points of a regular grid with the same number of points.
    side = 72 * 2.7 / math.sqrt(max(len(view.points), 1) * max(width / height, height / width))
    axes.scatter(
        view.points[:, 1], view.points[:, 0], s=(0.55 * side) ** 2, color="white", linewidths=0, rasterized=True
    )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")


def _shade(figure: Any, axes: Any, view: View, frame: Mapping[str, Any]) -> None:
    """Draw the density over the picture: orange where the layer reads more than usual, violet where less."""
    from matplotlib.cm import ScalarMappable

    away = np.abs(view.density - 1)
    reach = float(np.clip(np.percentile(away, 98), _NARROWEST, 1))
    axes.imshow(view.picture, **frame)
    opacity = 0.85 * np.minimum(away / reach, 1)
    shade = axes.imshow(view.density, cmap="PuOr_r", alpha=opacity, vmin=1 - reach, vmax=1 + reach, **frame)
    bar = figure.colorbar(ScalarMappable(shade.norm, shade.cmap), ax=axes, shrink=0.85, extend="max", aspect=28)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
    bar.outline.set_visible(False)


def _draw_arrows(axes: Any, view: View, frame: Mapping[str, Any]) -> int:
    """Draw the displacements over the darkened picture; return the factor by which the arrows are enlarged."""
    height, width = view.picture.shape[:2]
    axes.imshow(view.picture * 0.55, **frame)
    distance = math.sqrt(height * width / max(len(view.arrows), 1))
    long = float(np.percentile(np.hypot(*view.moves.T), 95)) if len(view.moves) else 0.0
    factor = max((one for one in _FACTORS if one * long <= 1.2 * distance), default=1) if long > 0 else 1
    rows, columns = view.arrows.T
    down, right = view.moves.T * factor
    axes.quiver(
        columns, rows, right, down, angles="xy", scale_units="xy", scale=1, color=_ARROW, width=0.005, headwidth=3.6,
        headlength=4.2, headaxislength=3.8, minshaft=1.2, minlength=0.4,
    )  # fmt: skip
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return factor
