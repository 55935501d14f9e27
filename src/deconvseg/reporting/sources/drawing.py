"""The figure of what the deconvolutions of a network do, a row for each layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError
from deconvseg.reporting.sources.maps import Array, SourceMap
from deconvseg.reporting.style import INK, MUTED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sources of one channel that are shown, at most.
_SOURCES = 4
_PANEL = 1.15
# Values above this percentile are white.
_BRIGHT = 99.5


def draw_sources(networks: Mapping[str, Sequence[SourceMap]]) -> "Figure":
    """Return a figure with a row for each layer, and for each network the deconvolution of one channel of its input.

    The channel is the one that varies most. Beside its image X are its strongest sources, each with its filter in a
    corner (of a 3D filter the largest values along its third axis), and their sum S ∗ V: where the deconvolution
    explains its input, it looks like X. Below are the errors of the whole layer. The networks, such as one before and
    after its training, have the same layers; ``networks`` has their titles. Raises
    :class:`~deconvseg.errors.InputError` without networks, and for other layers.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.reporting import draw_sources, source_maps
        >>> network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8]).eval()
        >>> draw_sources({"untrained": source_maps(network, torch.rand(1, 1, 32, 32))}).savefig("sources.png")

    """
    rows = [[one.layer for one in maps] for maps in networks.values()]
    if not rows or not rows[0]:
        raise InputError("there is no deconvolution to show; give at least one network with one")
    if any(layers != rows[0] for layers in rows[1:]):
        raise InputError("the networks have different layers: draw one figure for each")
    shown = min(_SOURCES, max(one.filters.shape[1] for maps in networks.values() for one in maps))
    first = next(iter(networks.values()))
    heights = [one.x.shape[1] / one.x.shape[2] for one in first]
    figure = new_figure(
        _PANEL * (shown + 2) * len(networks) + 0.4, sum(_PANEL * min(h, 1.6) + 0.55 for h in heights) + 0.5
    )
    blocks = figure.subfigures(1, len(networks), squeeze=False)[0]
    for block, (title, maps) in zip(blocks, networks.items(), strict=True):
        block.suptitle(plain(title, 80), fontsize=11, fontweight="bold", color=INK)
        parts = block.subfigures(len(maps), 1, squeeze=False, height_ratios=[min(h, 1.6) + 0.45 for h in heights])
        for (part,), one in zip(parts, maps, strict=True):
            _draw_layer(part, one, shown)
    return figure


def _draw_layer(figure: Any, one: SourceMap, shown: int) -> None:
    channel = one.clearest
    panels = figure.subplots(1, shown + 2)
    strongest = one.sources_of(channel)[:shown]
    bright = max((float(np.percentile(source, _BRIGHT)) for source, _ in strongest), default=0.0) or 1.0
    steep = max((float(taps.max()) for _, taps in strongest), default=0.0) or 1.0
    grey = {"cmap": "gray", "vmin": 0, "vmax": float(np.percentile(one.x[channel], _BRIGHT)) or 1.0}
    _show(panels[0], one.x[channel], f"X, channel {channel}", **grey)
    _show(panels[-1], one.reconstruction[channel], "S ∗ V", **grey)
    for axes, (source, taps) in zip(panels[1:-1], strongest, strict=False):
        _show(axes, source, "source and filter", cmap="magma", vmin=0, vmax=bright)
        corner = axes.inset_axes((0.02, 0.66, 0.32, 0.32))
        _show(corner, _flat(taps), "", cmap="viridis", vmin=0, vmax=steep)
        corner.spines[:].set(visible=True, color="white")
    for axes in panels[1 + len(strongest) : -1]:
        axes.set_axis_off()
    figure.supxlabel(
        f"{one.layer}, {one.x.shape[2]} × {one.x.shape[1]}: error {one.initial_error:.2f} → {one.error:.2f}, "
        f"source changed by {one.moved:.0%}, {one.silent:.0%} zero; filters {one.blocked:.0%} zero",
        fontsize=7.5,
        color=MUTED,
    )


def _show(axes: Any, picture: npt.NDArray[Any], title: str, **colours: Any) -> None:
    axes.imshow(picture, interpolation="nearest", **colours)
    axes.set_title(title, fontsize=7, color=MUTED, pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _flat(taps: Array) -> Array:
    """Return a 2D filter, or the largest values of a 3D one along its third axis, as its sources are shown."""
    from deconvseg.reporting.overlay import axial

    return taps if taps.ndim == 2 else axial(taps.max(axis=2, keepdims=True), 0)
