"""The tables of a comparison."""

from collections.abc import Mapping, Sequence

import numpy as np

from deconvseg.evaluation.comparing import PairedDifference
from deconvseg.reporting.class_tables import format_interval, format_number, head_metric
from deconvseg.reporting.comparison.differences import Difference
from deconvseg.reporting.comparison.pairing import Comparison
from deconvseg.reporting.sections import name_unit
from deconvseg.reporting.tables import DASH, Cell, Column, Row, Table


def tabulate_scores(comparison: Comparison, colours: Mapping[str, str], run_colours: Mapping[str, str]) -> Table:
    """Return the mean and interval of every metric of every run by class."""
    unit = name_unit(comparison.entries[0].evaluation.tree)
    columns = [Column("Class"), Column("Run", words=True)]
    columns += [Column(head_metric(metric, unit), "mean, 95 % CI") for metric in comparison.metrics]
    rows = []
    for column, name in enumerate(comparison.columns):
        for run, entry in enumerate(comparison.entries):
            found = [
                (comparison.statistics[run][column][place], metric.digits)
                for place, metric in enumerate(comparison.metrics)
            ]
            cells = [
                Cell(format_number(each["mean"], digits), (format_interval(each, digits),)) for each, digits in found
            ]
            head = Cell(name, colour=colours.get(name, "")) if run == 0 else Cell("")
            rows.append(Row((head, Cell(entry.name, colour=run_colours[entry.name]), *cells)))
    return Table(tuple(columns), tuple(rows))


def tabulate_pairs(comparison: Comparison, colours: Mapping[str, str]) -> Table:
    """Return the paired differences of every metric, class and pair of runs."""
    unit = name_unit(comparison.entries[0].evaluation.tree)
    metrics = {metric.key: metric for metric in comparison.metrics}
    columns = (
        Column("Class"),
        *(Column("Metric", words=True), Column("Second minus first", words=True)),
        *(Column("mean difference", "95 % CI"), Column("p", "Wilcoxon"), Column("p", "Holm")),
        *(Column("better"), Column("worse"), Column("equal")),
    )
    rows = []
    for pair in comparison.pairs:
        metric, found = metrics[pair.metric], pair.difference
        rows.append(
            Row(
                (
                    Cell(pair.class_name, colour=colours.get(pair.class_name, "")),
                    Cell(head_metric(metric, unit)),
                    Cell(f"{pair.second} − {pair.first}"),
                    _difference(found, metric.digits),
                    *(_probability(found.p), _probability(found.p_holm)),
                    *(Cell(str(count), value=count) for count in (found.better, found.worse, found.equal)),
                )
            )
        )
    return Table(columns, tuple(rows)).without_empty_columns()


def _difference(found: PairedDifference, digits: int) -> Cell:
    if found.mean is None:
        return Cell(DASH)
    interval = f"{format_signed(found.ci95[0], digits)} to {format_signed(found.ci95[1], digits)}" if found.ci95 else ""
    return Cell(format_signed(found.mean, digits), (interval,) if interval else (), value=found.mean)


def format_signed(value: float, digits: int) -> str:
    """Return a difference with its sign, written as a minus sign, not a hyphen."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    # A value that rounds to zero has no sign.
    return text if any(digit in text for digit in "123456789") else text[1:]


def _probability(value: float | None) -> Cell:
    if value is None:
        return Cell(DASH)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value=value)


def tabulate_differences(names: Sequence[str], differences: Sequence[Difference]) -> Table:
    """Return the differences between runs, one column per run."""
    columns = (Column("Value"), *(Column(name, words=True) for name in names))
    rows = tuple(Row((Cell(each.key), *(Cell(value) for value in each.values))) for each in differences)
    return Table(columns, rows)


def tabulate_cost(names: Sequence[str], costs: Sequence[Mapping[str, str]], run_colours: Mapping[str, str]) -> Table:
    """Return the costs of the runs, one column per run."""
    keys = dict.fromkeys(key for cost in costs for key in cost)
    columns = (Column(""), *(Column(name, colour=run_colours[name]) for name in names))
    return Table(columns, tuple(Row((Cell(key), *(Cell(cost.get(key, DASH)) for cost in costs))) for key in keys))


def tabulate_cases(
    comparison: Comparison, links: Mapping[int, str], anchors: Sequence[str], run_colours: Mapping[str, str]
) -> Table:
    """Return the sortable table of the common cases: each metric of each run, ordered by the change of Dice.

    ``links`` maps the indices of cases to the anchors of pictures; ``anchors`` are those of the rows.
    """
    unit = name_unit(comparison.entries[0].evaluation.tree)
    names = [entry.name for entry in comparison.entries]
    columns = [Column("Case"), Column("change of Dice", f"{names[-1]} − {names[0]}")]
    columns += [
        Column(head_metric(metric, unit), name, colour=run_colours[name])
        for metric in comparison.metrics
        for name in names
    ]
    scores = comparison.scores[:, :, -1, :]
    change = scores[-1, :, 0] - scores[0, :, 0]
    rows = []
    for place in np.argsort(np.nan_to_num(change), kind="stable").tolist():
        cells = (
            [Cell(format_signed(change[place], 3), value=float(change[place]))]
            if not np.isnan(change[place])
            else [Cell(DASH)]
        )
        for number, metric in enumerate(comparison.metrics):
            values = [None if np.isnan(value) else float(value) for value in scores[:, place, number]]
            cells += [Cell(format_number(value, metric.digits), value=value) for value in values]
        head = Cell(comparison.cases[place], link=links.get(place, ""))
        rows.append(Row((head, *cells), anchors[place]))
    return Table(tuple(columns), tuple(rows), sortable=True).without_empty_columns()
