"""The figure of several runs on the cases that they share."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from deconvseg.errors import InputError, check_choice
from deconvseg.reporting.comparison.pairing import Comparison, compare_runs
from deconvseg.reporting.comparison.pictures import choose_changed, read_pixels
from deconvseg.reporting.side_by_side.cases import NetworkCase
from deconvseg.reporting.side_by_side.drawing import Look, draw_networks
from deconvseg.reporting.style import check_picture, write_picture

Location = str | PathLike[str]


def write_network_figure(
    runs: Sequence[Location],
    output: Location,
    *,
    evaluations: Sequence[Location] = (),
    names: Sequence[str] = (),
    cases: int = 2,
    chosen: Sequence[str] = (),
    look: Look = "errors",
    crops: int = 0,
) -> Path:
    """Draw two or more runs side by side on common cases, write the picture (.png, .pdf or .svg) and return its path.

    ``runs`` and ``evaluations`` are those of :func:`write_comparison`; ``names`` are the titles of the columns, by
    default the runs' names. ``chosen`` names the cases; by default the ``cases`` in which the Dice of the runs differs
    most are shown. ``look`` is that of :func:`draw_networks`; ``crops`` regions of each case are enlarged. Raises
    :class:`~deconvseg.errors.InputError` as :func:`compare_runs` does, and for unknown cases.

    Example:
        >>> from deconvseg.reporting import write_network_figure
        >>> write_network_figure(["RUN", "RUN"], "networks.png", names=["first", "second"], cases=1).name
        'networks.png'

    """
    check_picture(output)
    if names and len(names) != len(runs):
        raise InputError(f"names has {len(names)} entries for {len(runs)} runs; give one for each")
    comparison = compare_runs(runs, evaluations)
    titles = list(names) if names else [entry.name for entry in comparison.entries]
    places = _places(comparison, chosen, cases)
    found = [_read(comparison, place, titles, crops) for place in places]
    labels = dict(enumerate(comparison.classes, start=1))
    return write_picture(draw_networks(found, look=look, labels=labels), output)


def _places(comparison: Comparison, chosen: Sequence[str], most: int) -> list[int]:
    for name in chosen:
        check_choice(name, comparison.cases, "case")
    if chosen:
        return [comparison.cases.index(name) for name in chosen]
    # Runs that agree everywhere are shown on their first cases.
    return (choose_changed(comparison, most) or list(range(len(comparison.cases))))[:most]


def _read(comparison: Comparison, place: int, titles: Sequence[str], crops: int) -> NetworkCase:
    name = comparison.cases[place]
    pixels = read_pixels(comparison, name)
    scores = {
        title: 100 * float(value)
        for title, value in zip(titles, comparison.scores[:, place, -1, 0], strict=True)
        if not np.isnan(value)
    }
    masks = dict(zip(titles, pixels.masks, strict=True))
    return NetworkCase(name, pixels.image, pixels.truth, masks, pixels.spacing, scores).with_crops(crops)
