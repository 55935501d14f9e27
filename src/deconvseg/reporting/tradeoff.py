"""Published Dice against the cost of a network, as in Deconver's Fig. 3 (arXiv 2504.00302)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deconvseg.reporting.style import INK, MUTED, SERIES, add_legend, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Candidate positions of a name, in points from its marker: above, below, right, left, and further away.
_PLACES = (
    *(((0, 11), "center"), ((0, -11), "center"), ((7, 0), "left"), ((-7, 0), "right")),
    *(((6, 9), "left"), ((6, -9), "left"), ((-6, 9), "right"), ((-6, -9), "right")),
    *(((0, 21), "center"), ((0, -21), "center"), ((0, 31), "center"), ((0, -31), "center")),
)


@dataclass(frozen=True)
class TradeOff:
    """A network: its published Dice (%) and cost, and its true cost and measured seconds if they are known.

    Costs are in thousands of operations per voxel.
    """

    name: str
    dice: float
    published_cost: float | None = None
    cost: float | None = None
    seconds: float | None = None


def draw_tradeoff(networks: Sequence[TradeOff], timed: str = "") -> "Figure":
    """Return a figure of Dice against cost and, if any network was timed, against seconds (``timed`` names the device).

    A filled point is the true cost, an open point the published cost; a line joins the two of a network.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    with_seconds = [network for network in networks if network.seconds is not None]
    figure = new_figure(10 if with_seconds else 5.8, 4.4)
    panels = figure.subplots(1, 2 if with_seconds else 1, squeeze=False, sharey=True)[0]
    colours = {network.name: SERIES[place % len(SERIES)] for place, network in enumerate(networks)}
    _draw_costs(panels[0], networks, colours)
    if with_seconds:
        _draw_points(panels[1], [(network, network.seconds or 0.0) for network in with_seconds], colours)
        style_axes(panels[1], "Published Dice against measured time", f"seconds per patch{timed and f' ({timed})'}")
    for axes in panels:
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    name_points(panels[0], [(each.name, each.cost or each.published_cost or 0.0, each.dice) for each in networks])
    if with_seconds:
        name_points(panels[1], [(each.name, each.seconds or 0.0, each.dice) for each in with_seconds])
    return figure


def _draw_costs(axes: Any, networks: Sequence[TradeOff], colours: Mapping[str, str]) -> None:
    for network in networks:
        if network.cost and network.published_cost:
            ends = [network.published_cost, network.cost]
            axes.plot(ends, [network.dice] * 2, color=colours[network.name], linewidth=1, zorder=2)
    _draw_points(axes, [(n, n.published_cost) for n in networks if n.published_cost], colours, filled=False)
    _draw_points(axes, [(n, n.cost) for n in networks if n.cost], colours)
    for label, face in (("published cost", "white"), ("true cost", MUTED)):
        axes.scatter([], [], s=42, facecolor=face, edgecolor=MUTED, label=label)
    style_axes(axes, "Published Dice against cost", "thousand operations per voxel", "Dice (%)")
    add_legend(axes, loc="lower right")


def _draw_points(
    axes: Any, points: Sequence[tuple[TradeOff, float]], colours: Mapping[str, str], *, filled: bool = True
) -> None:
    for network, place in points:
        colour = colours[network.name]
        face = colour if filled else "white"
        axes.scatter([place], [network.dice], s=42, facecolor=face, edgecolor=colour, zorder=3)


def name_points(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names next to points (name, x, y), where they overlap neither each other nor the lines."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()
    taken = [
        Bbox.from_bounds(x - 4, y - 4, 8, 8)
        for x, y in (axes.transData.transform((place, height)) for _, place, height in points)
    ]
    taken += [line.get_window_extent() for line in axes.lines]
    for name, place, height in points:
        for offset, alignment in _PLACES:
            text = axes.annotate(
                name, (place, height), offset, textcoords="offset points", ha=alignment, va="center",
                fontsize=8, color=INK,
            )  # fmt: skip
            box = text.get_window_extent()
            if (offset, alignment) == _PLACES[-1] or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
