"""The page of a comparison, and its numbers as a JSON file next to it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from deconvseg.data import class_colours, parse_colour
from deconvseg.errors import InputError
from deconvseg.reporting.class_tables import format_interval, format_number
from deconvseg.reporting.comparison.charts import draw_dumbbells, draw_scatter, draw_training, run_colour
from deconvseg.reporting.comparison.entries import describe_cost
from deconvseg.reporting.comparison.pairing import MEAN, Comparison, compare_runs
from deconvseg.reporting.comparison.pictures import choose_changed, draw_changed
from deconvseg.reporting.comparison.tables import (
    format_signed,
    tabulate_cases,
    tabulate_cost,
    tabulate_differences,
    tabulate_pairs,
    tabulate_scores,
)
from deconvseg.reporting.gallery import WORST, Album
from deconvseg.reporting.overview import tell_how_made
from deconvseg.reporting.rendering import Section, render_page, section_of_blocks
from deconvseg.reporting.style import figure_uri
from deconvseg.system import write_text
from deconvseg.text import dump_json, number_of

Location = str | PathLike[str]
# For five differences of one sign, p is 2 / 2⁵.
_FEWEST_FOR_TEST = 6
# A mean difference over fewer cases says nothing about the runs.
_FEWEST_FOR_VERDICT = 5


@dataclass(frozen=True)
class _Page:
    """The content of the sections."""

    comparison: Comparison
    changed: int
    album: Album = field(default_factory=Album)

    @cached_property
    def names(self) -> list[str]:
        """The names of the runs."""
        return [entry.name for entry in self.comparison.entries]

    @cached_property
    def run_colours(self) -> dict[str, str]:
        """The colours of the runs."""
        return {name: run_colour(place) for place, name in enumerate(self.names)}

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colours of the classes; those that a run declares come first."""
        declared: dict[str, str] = {}
        for entry in reversed(self.comparison.entries):
            declared |= {name: parse_colour(text) for name, text in (entry.run.plan.get("colours") or {}).items()}
        names = [name for entry in self.comparison.entries for name in entry.run.class_names]
        return class_colours(list(dict.fromkeys([*names, *self.comparison.classes])), declared)

    @cached_property
    def places(self) -> list[int]:
        """The cases that are shown in pictures."""
        return choose_changed(self.comparison, self.changed)

    def row(self, place: int) -> str:
        """The anchor of a case's row."""
        return f"row-{place + 1}"


def write_comparison(
    runs: Sequence[Location],
    output: Location = "compare.html",
    *,
    evaluations: Sequence[Location] = (),
    cases: int = WORST,
) -> Comparison:
    """Compare two or more runs, write one self-contained HTML page, and return the numbers.

    ``runs`` are folders of runs or of cross-validations, or ``metrics.json`` files; ``evaluations`` are files of
    metrics, one for each run in the order of the runs (default: those of the validation). Pictures show the ``cases``
    in which the runs differ most. The numbers are written next to the page, to a ``.json`` file of its name. Raises
    :class:`~deconvseg.errors.InputError` as :func:`compare_runs` does.

    Example:
        >>> from deconvseg.reporting import write_comparison
        >>> found = write_comparison(["RUN", "RUN"], "compare.html")
        >>> [entry.name for entry in found.entries]
        ['RUN (1)', 'RUN (2)']

    """
    target = Path(output)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{target}: the page is HTML; give a name that ends in .html, such as compare.html")
    comparison = compare_runs(runs, evaluations)
    page = _Page(comparison, cases)
    content = render_page(
        title=" and ".join([", ".join(page.names[:-1]), page.names[-1]]),
        subtitle=f"Comparison of {len(page.names)} runs over {number_of(len(comparison.cases), 'case')}",
        sections=[section for build in _SECTIONS for section in build(page)],
    )
    write_text(target, content)
    write_text(target.with_suffix(".json"), dump_json(comparison.to_json()) + "\n")
    return comparison


def _overview(page: _Page) -> Iterator[Section]:
    comparison = page.comparison
    lines = []
    for run, entry in enumerate(comparison.entries):
        statistics = comparison.statistics[run][-1][0]
        metric = comparison.metrics[0]
        interval = format_interval(statistics, metric.digits)
        score = f"{metric.title} {format_number(statistics['mean'], metric.digits)}"
        made = tell_how_made(entry.run) if entry.run.plan else "Made by other software, or by a run that is not given."
        lines.append(f"{entry.name}: {score}{f' (95 % CI {interval})' if interval else ''}. {made}")
    lead = [tell_verdict(comparison), *lines]
    tables = [("", tabulate_scores(comparison, page.colours, page.run_colours))]
    yield section_of_blocks(
        "overview", "In brief", lead=lead, notes=comparison.notes, colours=page.run_colours, tables=tables
    )


def tell_verdict(comparison: Comparison) -> str:
    """Return a sentence that compares the first and the last run in the first metric, with interval and p.

    Over fewer than five common cases the sentence gives no difference.
    """
    names = [entry.name for entry in comparison.entries]
    metric, column = comparison.metrics[0], comparison.columns[-1]
    pair = next(
        each
        for each in comparison.pairs
        if (each.first, each.second, each.class_name, each.metric) == (names[0], names[-1], column, metric.key)
    )
    found = pair.difference
    if found.mean is None:
        return f"{metric.title} has no value in any common case."
    if found.n < _FEWEST_FOR_VERDICT:
        return (
            f"{pair.first} and {pair.second}: too few common cases to compare, {found.n} where at least "
            f"{_FEWEST_FOR_VERDICT} are needed; the tables show {'its scores' if found.n == 1 else 'their scores'}."
        )
    where = f"mean {metric.title}" if column == MEAN else metric.title
    text = f"{pair.second} minus {pair.first}: {where} {format_signed(found.mean, metric.digits)}"
    if found.ci95:
        low, high = (format_signed(bound, metric.digits) for bound in found.ci95)
        text += f" (95 % CI {low} to {high})"
    if found.p is not None:
        text += f", p {'< 0.001' if found.p < 0.001 else f'= {found.p:.3f}'}"
    return f"{text}, over {number_of(found.n, 'common case')}; better in {found.better}, worse in {found.worse}."


def _pairs(page: _Page) -> Iterator[Section]:
    corrected = len(page.names) > 2
    lead = [
        "Differences are second minus first, over the cases in which both have a value. The interval is a percentile "
        "bootstrap of the mean difference (10,000 resamples of cases), p is Wilcoxon's signed-rank test, two-sided"
        + (", and Holm corrects it for all pairs of runs." if corrected else ".")
    ]
    if len(page.comparison.cases) < _FEWEST_FOR_TEST:
        lead.append("Of fewer than six cases, p cannot be below 0.05, however large the difference.")
    yield section_of_blocks(
        "pairs", "Paired differences", lead=lead, tables=[("", tabulate_pairs(page.comparison, page.colours))]
    )


def _charts(page: _Page) -> Iterator[Section]:
    comparison = page.comparison
    dice = comparison.scores[:, :, :, 0]
    # The table shows a single case better than a chart.
    if len(comparison.cases) == 1:
        return
    figures = []
    if len(page.names) == 2 and not np.isnan(dice).all():
        figure = draw_scatter(page.names, comparison.classes, page.colours, dice[:, :, : len(comparison.classes)])
        figures.append(
            {"uri": figure_uri(figure), "text": "Dice of the second run against the first, by case and class"}
        )
    figure = draw_dumbbells(page.names, comparison.cases, dice[:, :, -1])
    figures.append({"uri": figure_uri(figure), "text": "Dice of each case in all runs"})
    yield section_of_blocks("charts", "Dice by case", figures=figures)


def _changed(page: _Page) -> Iterator[Section]:
    comparison = page.comparison
    panels = []
    for number, place in enumerate(page.places, 1):
        values = [format_number(_number(score), 3) for score in comparison.scores[:, place, -1, 0]]
        text = " · ".join(f"{name} {value}" for name, value in zip(page.names, values, strict=True))
        panels.append(
            {"rank": "", "name": comparison.cases[place], "text": f"Dice: {text}", "row": page.row(place)}
            | {"anchor": f"case-{number}"}
            | draw_changed(comparison, place, page.colours, page.album)
        )
    if panels:
        yield section_of_blocks("changed", "Cases that differ most", panels=panels)


def _cases(page: _Page) -> Iterator[Section]:
    links = {place: f"case-{number}" for number, place in enumerate(page.places, 1)}
    rows = [page.row(place) for place in range(len(page.comparison.cases))]
    table = tabulate_cases(page.comparison, links, rows, page.run_colours)
    title = "The only common case" if len(rows) == 1 else f"All {len(rows)} common cases"
    yield section_of_blocks("cases", title, tables=[("", table)])


def _training(page: _Page) -> Iterator[Section]:
    figure = draw_training(page.names, [entry.run.metrics for entry in page.comparison.entries])
    if figure is not None:
        chart = {"uri": figure_uri(figure), "text": "Loss and validation Dice of each run over the time of training"}
        yield section_of_blocks("training", "Training", figures=[chart])


def _cost(page: _Page) -> Iterator[Section]:
    costs = [describe_cost(entry) for entry in page.comparison.entries]
    if any(costs):
        yield section_of_blocks("cost", "Cost", tables=[("", tabulate_cost(page.names, costs, page.run_colours))])


def _differences(page: _Page) -> Iterator[Section]:
    found = page.comparison.differences
    lead = [] if found else ["Nothing differs in what the runs record of themselves."]
    tables = [
        (part[0].upper() + part[1:], tabulate_differences(page.names, [each for each in found if each.part == part]))
        for part in dict.fromkeys(each.part for each in found)
    ]
    yield section_of_blocks("differences", "What differs between the runs", lead=lead, tables=tables)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


_SECTIONS: tuple[Callable[[_Page], Iterator[Section]], ...] = (
    _overview,
    _differences,
    _pairs,
    _charts,
    _changed,
    _training,
    _cost,
    _cases,
)
