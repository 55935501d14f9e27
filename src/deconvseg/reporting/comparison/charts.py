"""Charts of a comparison: Dice of every case in all runs, and the learning curves of all runs in one figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvseg.reporting.style import GRID, INK, MUTED, add_legend, new_figure, plain, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvseg.evaluation.summary import Scores

# The colours of runs differ from those of classes and errors; each run also has its own marker.
RUN_COLOURS = ("#8b5cf6", "#0d9488", "#e11d48", "#a16207", "#64748b", "#db2777")
_MARKERS = "osD^vP"
# The lines of more cases could not be told apart.
_MOST_LINES = 45


def run_colour(place: int) -> str:
    """Return the colour of the run with that index."""
    return RUN_COLOURS[place % len(RUN_COLOURS)]


def draw_dumbbells(names: Sequence[str], cases: Sequence[str], scores: "Scores") -> "Figure":
    """Return a figure with a line per case from run to run, ordered by the change from the first to the last run.

    ``scores`` is (runs, cases). Of many cases, only those that changed most are drawn.
    """
    change = scores[-1] - scores[0]
    order = np.argsort(np.nan_to_num(change), kind="stable")
    if len(order) > _MOST_LINES:
        largest = np.argsort(-np.abs(np.nan_to_num(change)), kind="stable")[:_MOST_LINES]
        order = np.array([place for place in order if place in set(largest.tolist())])
    figure = new_figure(5.8, 1.4 + 0.2 * len(order))
    axes = figure.subplots()
    places = np.arange(len(order))
    known = np.where(np.isnan(scores), 0.0, scores)[:, order]
    axes.hlines(places, known.min(axis=0), known.max(axis=0), color=GRID, linewidth=2.5, zorder=1)
    for place, (name, values) in enumerate(zip(names, scores[:, order], strict=True)):
        axes.scatter(
            values, places, s=22, color=run_colour(place), marker=_MARKERS[place % len(_MARKERS)], zorder=2 + place,
            label=plain(name, 32),
        )  # fmt: skip
    axes.set_yticks(places, [plain(cases[place], 24) for place in order], fontsize=7)
    some = f" (the {len(order)} of {len(cases)} that changed most)" if len(order) < len(cases) else ""
    style_axes(axes, f"Dice by case{some}", "Dice, mean over classes" if len(names) else "Dice")
    axes.tick_params(axis="y", colors=INK)
    axes.grid(visible=False, axis="y")
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.55 / figure.get_figheight()), ncols=min(len(names), 3))
    return figure


def draw_scatter(
    names: Sequence[str], classes: Sequence[str], colours: Mapping[str, str], scores: "Scores"
) -> "Figure":
    """Return a figure of the second run's Dice against the first's; ``scores`` are (2, cases, classes)."""
    figure = new_figure(5.0, 4.6 + 0.2 * len(classes))
    axes = figure.subplots()
    low = max(0.0, float(np.nanmin(scores)) - 0.03)
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for place, name in enumerate(classes):
        axes.scatter(
            scores[0, :, place],
            scores[1, :, place],
            s=18,
            color=colours[name],
            alpha=0.85,
            linewidths=0,
            label=plain(name, 24),
        )
    axes.set_xlim(low - 0.02, 1.01)
    axes.set_ylim(low - 0.02, 1.01)
    axes.set_aspect("equal")
    style_axes(axes, "Dice by case and class", plain(names[0], 40), plain(names[1], 40))
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=min(len(classes), 3))
    return figure


def draw_training(names: Sequence[str], runs: Sequence[Sequence[Mapping[str, Any]]]) -> "Figure | None":
    """Return the losses and validation Dice of the runs over the time of training; None if no run has a curve."""
    if not any(runs):
        return None
    figure = new_figure(11, 3.2)
    panels = figure.subplots(1, 2)
    for axes, key, title in zip(panels, ("train_loss", "val_dice"), ("Training loss", "Validation Dice"), strict=True):
        for place, (name, rows) in enumerate(zip(names, runs, strict=True)):
            points = [
                (row["seconds"] / 60, row[key])
                for row in rows
                if row.get(key) is not None and row.get("seconds") is not None
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=run_colour(place), marker=_MARKERS[place % len(_MARKERS)],
                    markersize=3, linewidth=1.3, label=plain(name, 32),
                )  # fmt: skip
        style_axes(axes, title, "minutes of training")
        if axes.lines:
            add_legend(axes)
    return figure
