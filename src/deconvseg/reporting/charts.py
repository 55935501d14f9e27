"""Charts of an evaluation: the distribution of Dice over cases, and the agreement of volumes."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvseg.data import class_colours
from deconvseg.errors import InputError
from deconvseg.reporting.style import GRID, INK, MUTED, add_legend, new_figure, plain, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CLASSES = 16
# Fewer values have no meaningful quartiles.
_FEWEST_FOR_BOX = 5
# The longest class name that is shown, in characters.
_NAME = 24


def draw_dice_distribution(
    cases: Sequence[Mapping[str, Any]], labels: Mapping[str, str], colours: Mapping[str, str] | None = None
) -> "Figure":
    """Return a figure with one row per class: points for cases, a box of quartiles, a diamond at the mean.

    Fewer than five cases get no box, and a single case gets no mean. ``cases`` and ``labels`` come from a
    ``metrics.json``; ``colours`` maps class names to colours. A case is drawn only if its true mask has the class: two
    empty masks have a Dice of 1 and would hide the others. Raises :class:`InputError` if no true mask has any class.
    """
    colours = class_colours(list(labels.values())) | dict(colours or {})
    found = {
        value: [row["dsc"] for case in cases if (row := case["classes"][value])["volume_truth"]] for value in labels
    }
    true = [value for value in labels if found[value]]
    if not true:
        raise InputError("no true mask has any of the classes: there is no Dice to draw")
    shown = true[:_MOST_CLASSES]
    rows = [(labels[value], found[value]) for value in shown]
    if len(labels) > 1:
        means = [case.get("mean_with_truth", case["mean"]) for case in cases]
        rows.append(("mean over classes", [mean["dsc"] for mean in means if mean]))
    figure = new_figure(5.8, 1.25 + 0.52 * len(rows))
    axes = figure.subplots()
    for place, (name, values) in enumerate(rows):
        colour = INK if place == len(shown) else colours[name]
        _draw_row(axes, values, len(rows) - 1 - place, colour)
    axes.set_yticks(range(len(rows)), [plain(name, _NAME) for name, _ in reversed(rows)])
    lowest = min(value for _, values in rows for value in values)
    axes.set_xlim(max(0.0, math.floor(lowest * 10 - 0.2) / 10) - 0.01, 1.01)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    more = f" ({len(shown)} of {len(labels)} classes)" if len(labels) > len(shown) else ""
    style_axes(axes, f"Dice of every case with truth{more}", "Dice similarity coefficient")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", colors=INK)
    return figure


def draw_volume_agreement(
    cases: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    unit: str,
    colours: Mapping[str, str] | None = None,
) -> "Figure":
    """Return a Bland-Altman figure: prediction minus truth against their mean.

    ``cases`` and ``labels`` come from a ``metrics.json``; ``colours`` maps class names to colours; ``unit`` is the unit
    of the volumes, such as "mm³". The limits are the mean difference ± 1.96 standard deviations (Bland and Altman,
    1986).
    """
    colours = class_colours(list(labels.values())) | dict(colours or {})
    figure = new_figure(5.8, 2.9 + 0.22 * min(len(labels), _MOST_CLASSES))
    axes = figure.subplots()
    scale, unit = _scale(cases, unit)
    shown = list(labels)[:_MOST_CLASSES]
    for value in shown:
        rows = [case["classes"][value] for case in cases]
        truth, prediction = (
            np.array([row[key] for row in rows]) * scale for key in ("volume_truth", "volume_prediction")
        )
        difference, colour = prediction - truth, colours[labels[value]]
        bias, spread = difference.mean(), 1.96 * difference.std(ddof=1) if len(difference) > 1 else 0.0
        numbers = f"{_signed(bias)} ({_signed(bias - spread)} to {_signed(bias + spread)})"
        label = f"{plain(labels[value], _NAME)}: {numbers}"
        axes.scatter((truth + prediction) / 2, difference, s=16, color=colour, alpha=0.8, linewidths=0, label=label)
        if len(shown) <= 3:
            axes.axhline(bias, color=colour, linewidth=1.2)
            for limit in (bias - spread, bias + spread):
                axes.axhline(limit, color=colour, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    style_axes(
        axes,
        "Volume agreement: bias (95 % limits)",
        f"mean of truth and prediction ({unit})",
        f"prediction − truth ({unit})",
    )
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1, handletextpad=0.2)
    return figure


def _draw_row(axes: Any, values: Sequence[float], height: float, colour: str) -> None:
    # Points are spread by rank, not at random, so that the same data give the same picture.
    offsets = ((np.argsort(np.argsort(values)) * 0.618034 + 0.5) % 1.0 - 0.5) * 0.5
    axes.scatter(values, height + offsets, s=15, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.axhline(height, color=GRID, linewidth=0.7, zorder=0)
    if len(values) >= _FEWEST_FOR_BOX:
        _draw_box(axes, values, height)
    if len(values) > 1:
        mean = float(np.mean(values))
        axes.scatter([mean], [height], s=34, marker="D", facecolor="white", edgecolor=INK, linewidths=1.1, zorder=4)


def _draw_box(axes: Any, values: Sequence[float], height: float) -> None:
    """Draw a box of quartiles, with whiskers to the last value within 1.5 interquartile ranges."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (high - low)
    ends = [min(v for v in values if v >= low - reach), max(v for v in values if v <= high + reach)]
    axes.broken_barh([(low, high - low)], (height - 0.31, 0.62), facecolors="none", edgecolor=MUTED, linewidth=0.9)
    axes.hlines([height] * 2, [ends[0], high], [low, ends[1]], color=MUTED, linewidth=0.9)
    axes.vlines(ends, height - 0.15, height + 0.15, color=MUTED, linewidth=0.9)
    axes.vlines(middle, height - 0.31, height + 0.31, color=INK, linewidth=1.4)


def _scale(cases: Sequence[Mapping[str, Any]], unit: str) -> tuple[float, str]:
    sizes = (
        row[key] for case in cases for row in case["classes"].values() for key in ("volume_truth", "volume_prediction")
    )
    largest = max(sizes)
    return (1e-3, "mL") if unit == "mm³" and largest >= 1e4 else (1.0, unit)


def _signed(value: float) -> str:
    return (f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.3g}").replace("-", "−")
