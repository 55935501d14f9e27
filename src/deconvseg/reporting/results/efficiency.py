"""Dice against parameters and against operations, both panels of Deconver's Fig. 3 (arXiv 2504.00302)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deconvseg.reporting.results.grid import column_title, full_title
from deconvseg.reporting.results.model import ResultColumn, ResultRow, TableResult
from deconvseg.reporting.results.statistics import means, published
from deconvseg.reporting.style import MUTED, SERIES, add_legend, new_figure, plain, style_axes
from deconvseg.reporting.tradeoff import name_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PRINTED = re.compile(r"([\d.]+)([KMG]?)")
_MILLIONS = {"K": 1e-3, "M": 1.0, "G": 1e3, "": 1e-6}


@dataclass(frozen=True)
class Place:
    """A network in one panel: its place along the axis and its score; ``measured`` tells ours from the paper's."""

    name: str
    size: float
    score: float
    measured: bool


def draw_efficiency(result: TableResult, column: str | None = None) -> "Figure | None":
    """Return the figure of one column against millions of parameters and thousands of operations per voxel.

    Where seconds were measured (`Cost`), a third panel has them. ``column`` is the key of a column, by default the
    first. Filled points are the scores measured here at the exact size, open points the published ones at the printed
    size; a line joins the two of a network. None if no row has a score and a size.

    Example:
        >>> from deconvseg.reporting import draw_efficiency, published_result
        >>> len(draw_efficiency(published_result("deconver/table-1")).axes)
        2

    """
    from matplotlib.ticker import LogLocator, NullLocator

    found = next((each for each in result.columns if column in (None, each.key)), None)
    if found is None:
        return None
    colours = {row.title: SERIES[place % len(SERIES)] for place, row in enumerate(result.rows)}
    panels = [
        (title, places)
        for title, exact, printed in (
            ("million parameters", _parameters, lambda row: row.published_parameters),
            ("thousand operations per voxel", _kflops, lambda row: row.published_cost),
            ("seconds per patch on a CPU", _seconds, lambda _: ""),
        )
        if (places := _places(result, found, exact, printed))
    ]
    if not panels:
        return None
    figure = new_figure(5.4 * len(panels), 4.4)
    for axes, (title, places) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True
    ):
        _draw(axes, places, colours)
        first = title == panels[0][0]
        style_axes(axes, full_title(found) if first else "", title, column_title(found, arrow=False) if first else "")
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        named = {place.name: place for place in sorted(places, key=lambda place: place.measured)}
        name_points(axes, [(plain(place.name), place.size, place.score) for place in named.values()])
    return figure


def _places(
    result: TableResult,
    column: ResultColumn,
    exact: "Callable[[ResultRow, str], float | None]",
    printed: "Callable[[ResultRow], str]",
) -> list[Place]:
    ours, theirs = means(result, column), published(result, column)
    places = []
    for row in result.rows:
        size = exact(row, column.dataset)
        if row.key in ours and size:
            places.append(Place(row.title, size, ours[row.key], measured=True))
        size = _read(printed(row))
        if row.key in theirs and size:
            places.append(Place(row.title, size, theirs[row.key], measured=False))
    return places


def _parameters(row: ResultRow, dataset: str) -> float | None:
    cost = row.costs.get(dataset)
    return cost.parameters / 1e6 if cost and cost.parameters else None


def _kflops(row: ResultRow, dataset: str) -> float | None:
    cost = row.costs.get(dataset)
    return cost.kflops if cost else None


def _seconds(row: ResultRow, dataset: str) -> float | None:
    cost = row.costs.get(dataset)
    return cost.seconds if cost else None


def _read(text: str) -> float | None:
    """Read a printed size: millions of parameters, or thousands of operations."""
    found = _PRINTED.match(text)
    if found is None:
        return None
    return float(found[1]) * (1.0 if "/" in text else _MILLIONS[found[2]])


def _draw(axes: Any, places: Sequence[Place], colours: dict[str, str]) -> None:
    for name in dict.fromkeys(place.name for place in places):
        pair = [place for place in places if place.name == name]
        if len(pair) == 2:
            axes.plot(
                [place.size for place in pair],
                [place.score for place in pair],
                color=colours[name],
                linewidth=1,
                zorder=2,
            )
    for place in places:
        face = colours[place.name] if place.measured else "none"
        axes.scatter([place.size], [place.score], s=42, facecolor=face, edgecolor=colours[place.name], zorder=3)
    for measured, label, face in ((False, "published", "none"), (True, "measured here", MUTED)):
        if any(place.measured is measured for place in places):
            axes.scatter([], [], s=42, facecolor=face, edgecolor=MUTED, label=label)
    add_legend(axes, loc="lower right")
