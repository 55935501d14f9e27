"""The learning curves of a run."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING, Any

from deconvseg.data import class_colours
from deconvseg.errors import InputError
from deconvseg.reporting.facts import describe_sample
from deconvseg.reporting.style import INK, MUTED, SERIES, add_legend, new_figure, plain, save_figure, style_axes
from deconvseg.system import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
_CLASS_PREFIX = "val_dice_"


def plot_curves(metrics: Rows, path: str | PathLike[str], colours: Mapping[str, str] | None = None) -> None:
    """Draw loss, validation Dice and learning rate over the epochs into a picture file (PNG, SVG, PDF).

    ``metrics`` has one row per epoch with ``epoch``, ``train_loss``, ``val_dice``, ``learning_rate`` and optionally
    ``val_dice_<class>``; missing and None values are drawn as gaps. ``colours`` maps class names to colours. Raises
    :class:`InputError` if there are no rows.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.reporting import plot_curves
        >>> from deconvseg.runs import Run
        >>> plot_curves(Run.open("RUN").metrics, "curves.svg")
        >>> Path("curves.svg").is_file()
        True

    """
    figure = draw_curves(metrics, colours)
    with atomic_write(path) as file:
        save_figure(figure, file, dpi=150, facecolor="white")


def render_curves(metrics: Rows, colours: Mapping[str, str] | None = None) -> bytes:
    """Return the picture of :func:`plot_curves` as the bytes of a PNG file.

    Example:
        >>> from deconvseg.reporting import render_curves
        >>> from deconvseg.runs import Run
        >>> render_curves(Run.open("RUN").metrics)[1:4]
        b'PNG'

    """
    buffer = BytesIO()
    save_figure(draw_curves(metrics, colours), buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def draw_curves(metrics: Rows, colours: Mapping[str, str] | None = None) -> "Figure":
    """Return the figure of `plot_curves`."""
    if not metrics:
        raise InputError("there are no epochs to draw; train for at least one epoch")
    # Rows count epochs from 0; charts and the screen count from 1.
    metrics = [{**row, "epoch": row["epoch"] + 1} for row in metrics]
    figure = new_figure(12, 3.4)
    loss, dice, rate = figure.subplots(1, 3, sharex=True)
    _draw_series(loss, metrics, "train_loss", color=SERIES[0])
    style_axes(loss, "Training loss", "epoch")
    _draw_dice(dice, metrics, colours or {})
    _draw_rate(rate, metrics)
    for axes in (loss, dice, rate):
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(metrics) == 1:
            axes.set_xlim(metrics[0]["epoch"] - 1, metrics[0]["epoch"] + 1)
    return figure


def _draw_dice(axes: Any, metrics: Rows, declared: Mapping[str, str]) -> None:
    keys = dict.fromkeys(key for row in metrics for key in row if key.startswith(_CLASS_PREFIX))
    names = [key.removeprefix(_CLASS_PREFIX) for key in keys]
    colours = class_colours(names) | dict(declared)
    several = len(names) > 1
    for name in names if several else ():
        label = plain(name) if len(names) <= 6 else None
        _draw_series(axes, metrics, _CLASS_PREFIX + name, label=label, color=colours[name], linewidth=1.3)
    _draw_series(axes, metrics, "val_dice", label="mean", color=INK, marker="o", markersize=3)
    with_truth = [row for row in metrics if _is_finite(row.get("val_with_truth"))]
    # The two are equal if every true mask has foreground.
    if any(row["val_with_truth"] != row.get("val_dice") for row in with_truth):
        _draw_series(axes, metrics, "val_with_truth", label="cases with truth", color=INK, linestyle=(0, (4, 3)))
        several = True
    sample = next((text for row in reversed(metrics) if (text := describe_sample(row))), "")
    style_axes(axes, "Validation Dice" + (f" ({sample})" if sample else ""), "epoch")
    drawn = [(row["val_dice"], row["epoch"]) for row in metrics if _is_finite(row.get("val_dice"))]
    if drawn:
        best, epoch = max(drawn, key=lambda pair: pair[0])
        axes.annotate(
            f"best {best:.3f}", (epoch, best), (0, 7), textcoords="offset points", ha="center", fontsize=8.5, color=INK
        )
        axes.set_ylim(0, 1.08)
    else:
        axes.text(0.5, 0.5, "no validation yet", transform=axes.transAxes, ha="center", color=MUTED, fontsize=9)
        axes.set_ylim(0, 1)
    if several:
        add_legend(axes)


def _draw_rate(axes: Any, metrics: Rows) -> None:
    rates = {row["epoch"]: row["learning_rate"] for row in metrics if _is_finite(row.get("learning_rate"))}
    largest = max(rates.values(), default=0.0)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    scaled = [{"epoch": epoch, "rate": rate / 10.0**power} for epoch, rate in rates.items()]
    _draw_series(axes, scaled, "rate", color=SERIES[4])
    style_axes(axes, f"Learning rate ($10^{{{power}}}$)", "epoch")


def _draw_series(axes: Any, metrics: Rows, key: str, **style: Any) -> None:
    points = [(row["epoch"], row[key]) for row in metrics if _is_finite(row.get(key))]
    if points:
        # A single epoch has no line to show.
        axes.plot(*zip(*points, strict=True), **({"marker": "o"} if len(points) == 1 else {}) | style)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
