"""The tables of an evaluation: metrics by class, by fold and by case."""

from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.evaluation.counting import tabulate_counts
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.reporting.tables import DASH, Cell, Column, Row, Table

_NO_BREAK = "\N{NO-BREAK SPACE}"
_ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}
# With at most this many classes, the table of cases shows the Dice of each class.
_MOST_CLASSES = 8


def format_number(value: float | None, digits: int) -> str:
    """Return a number as text, or a dash if it is missing."""
    return DASH if value is None else f"{value:.{digits}f}"


def format_interval(statistics: Mapping[str, Any], digits: int) -> str:
    """Return a 95 % confidence interval as text, or "" if there is none, such as for a single case."""
    if statistics["ci95"] is None:
        return ""
    low, high = statistics["ci95"]
    return f"{low:.{digits}f} to {high:.{digits}f}"


def head_metric(metric: MetricInfo, unit: str, tolerance: str = "") -> str:
    """Return the heading of a metric's column, with its unit or tolerance and an arrow to the better values."""
    name = metric.title
    if metric.unit == "length":
        name = f"{name} ({unit})"
    elif metric.at_tolerance and tolerance:
        name = f"{name} at {tolerance.replace(' ', _NO_BREAK)}"
    # The arrow stays with the last word where the heading wraps.
    return f"{name}{_NO_BREAK}{_ARROWS[metric.better]}" if metric.better in _ARROWS else name


def tabulate_classes(
    tree: Mapping[str, Any], metrics: Sequence[MetricInfo], heads: Sequence[str], colours: Mapping[str, str]
) -> Table | None:
    """Return the table of metrics by class, with the mean over classes as its foot; None if no class counts."""
    summary = tree["summary"]
    classes = [row for row in summary["classes"].values() if row["counted"]]
    if not classes:
        return None
    rows = [_class_row(row["name"], row, _count_masks(row), metrics, colours.get(row["name"], "")) for row in classes]
    foot = None
    if len(tree["labels"]) > 1:
        mean, counts = summary["mean"], tree["counts"]
        absent = mean["absent_classes"]
        name = f"mean over {mean['classes']} of {mean['classes'] + absent} classes" if absent else "mean over classes"
        foot = _class_row(name, mean, counts, metrics)
    several = any(row[metrics[0].key]["ci95"] for row in classes)
    note = "mean, 95 % CI" if several else ""
    columns = (
        Column("Class"),
        Column(heads[0], note),
        Column("with truth", note),
        *(Column(head, note) for head in heads[1:]),
        *(Column("missed"), Column("false alarms"), Column("both empty")),
    )
    table = Table(columns, tuple(rows), foot)
    return _without_repetition(table, summary).without_empty_columns()


def _count_masks(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a class under the names of the counts over all classes."""
    with_truth = row["cases_with_truth"]
    counts = {key: row[key] for key in ("missed", "spurious", "both_empty")}
    return {**counts, "with_truth_masks": with_truth, "without_truth_masks": row["cases"] - with_truth}


def _class_row(
    name: str,
    row: Mapping[str, Any],
    counts: Mapping[str, int],
    metrics: Sequence[MetricInfo],
    colour: str = "",
) -> Row:
    leading, *others = metrics
    true = row["with_truth"]
    return Row(
        (
            Cell(name, colour=colour),
            _statistics(row[leading.key], leading.digits),
            Cell(DASH) if true is None else _statistics(true[leading.key], leading.digits),
            *(_statistics(row[metric.key], metric.digits, counted=metric.drops) for metric in others),
            Cell(f"{counts['missed']} of {counts['with_truth_masks']}"),
            Cell(f"{counts['spurious']} of {counts['without_truth_masks']}" if counts["without_truth_masks"] else ""),
            Cell(str(counts["both_empty"]) if counts["without_truth_masks"] else ""),
        )
    )


def _statistics(found: Mapping[str, Any], digits: int, *, counted: bool = False) -> Cell:
    """Return the cell of a metric: mean, interval, median and standard deviation, as far as they have values.

    ``counted`` adds the number of cases with a value.
    """
    cases = (f"{found['cases']} of {found['cases'] + found['dropped']} cases",) if counted else ()
    if found["mean"] is None:
        return Cell(DASH, cases)
    spread = (
        [f"median {found['median']:.{digits}f}", f"SD {found['std']:.{digits}f}"] if found["std"] is not None else []
    )
    notes = tuple(text for text in (format_interval(found, digits), *spread, *cases) if text)
    return Cell(format_number(found["mean"], digits), notes, value=found["mean"])


def _without_repetition(table: Table, summary: Mapping[str, Any]) -> Table:
    """Return the table; the column of Dice with truth is emptied if every true mask has every class."""
    if any(row["cases_with_truth"] < row["cases"] for row in summary["classes"].values() if row["counted"]):
        return table

    def emptied(row: Row) -> Row:
        return Row((*row.cells[:2], Cell(""), *row.cells[3:]), row.anchor)

    return Table(table.columns, tuple(map(emptied, table.rows)), emptied(table.foot) if table.foot else None)


def tabulate_totals(
    tree: Mapping[str, Any], metrics: Sequence[MetricInfo], colours: Mapping[str, str]
) -> list[tuple[str, Table]]:
    """Return the title and the table of each metric that counts objects, such as found and missed lesions."""
    found = []
    for table in tabulate_counts(metrics, tree["summary"]):
        rows = tuple(
            Row((Cell(row[0], colour=colours.get(row[0], "")), *(Cell(text) for text in row[1:]))) for row in table.rows
        )
        found.append((table.title, Table(tuple(Column(head) for head in table.heads), rows).without_empty_columns()))
    return found


def tabulate_folds(tree: Mapping[str, Any], colours: Mapping[str, str]) -> Table | None:
    """Return the table of a cross-validation: each class in each fold, and the deviation over folds and cases."""
    spread = tree.get("spread")
    if not spread:
        return None
    rows = [(row["name"], row["dsc"], row.get("with_truth")) for row in spread["classes"].values()]
    if len(rows) > 1:
        rows.append(("mean over classes", spread["mean"]["dsc"], spread["mean"].get("with_truth")))
    columns = (
        Column("Class"),
        *(Column(f"fold {entry['fold']}") for entry in tree["folds"] if entry["cases"]),
        *(Column("mean", "over cases"), Column("SD", "over folds"), Column("SD", "over cases")),
        Column("with truth", "over cases"),
    )
    return Table(
        columns,
        tuple(
            Row(
                (
                    Cell(name, colour=colours.get(name, "")),
                    *(Cell(format_number(mean, 3)) for mean in dice["fold_means"]),
                    *(Cell(format_number(dice[key], 3)) for key in ("mean", "std_folds", "std_cases")),
                    Cell(DASH if true is None else format_number(true["mean"], 3)),
                )
            )
            for name, dice, true in rows
        ),
    ).without_empty_columns()


def tabulate_cases(
    tree: Mapping[str, Any],
    metrics: Sequence[MetricInfo],
    unit: str,
    links: Mapping[str, str],
    anchors: Mapping[str, str],
    colours: Mapping[str, str],
) -> Table:
    """Return the sortable table of all cases, worst first: metrics, Dice by class, missed and spurious classes.

    ``links`` maps the names of cases to the anchors of their pictures, ``anchors`` to the anchors of their rows.
    """
    counted = {value: row["name"] for value, row in tree["summary"]["classes"].items() if row["counted"]}
    shown = counted if 1 < len(counted) <= _MOST_CLASSES else {}
    counts = [count for metric in metrics for count in metric.counts if count.group == "all"]
    columns = (
        Column("Case"),
        *(Column(head_metric(metric, unit)) for metric in metrics),
        Column("Dice with truth"),
        *(Column(f"Dice {name}", colour=colours.get(name, "")) for name in shown.values()),
        *(Column(f"lesions {count.name}") for count in counts),
        *(Column("Missed", words=True), Column("Extra", words=True)),
    )
    rows = []
    for case in sorted(tree["cases"], key=worst_first):
        classes, true = case["classes"], case["mean_with_truth"]
        repeated = true is None or true["dsc"] == case["mean"]["dsc"]
        cells = [
            *(_value(case["mean"][metric.key], metric.digits) for metric in metrics),
            Cell("") if repeated else _value(true["dsc"], metrics[0].digits),
            *(_value(classes[value]["dsc"], metrics[0].digits) for value in shown),
            *(_total(classes, counted, count.column) for count in counts),
            *(Cell(_list_status(classes, counted, status)) for status in ("missed", "spurious")),
        ]
        rows.append(Row((Cell(case["name"], link=links.get(case["name"], "")), *cells), anchors[case["name"]]))
    return Table(columns, tuple(rows), sortable=True).without_empty_columns()


def worst_first(case: Mapping[str, Any]) -> tuple[float, str]:
    """Order cases by their mean Dice; cases without a value come last."""
    found = case["mean"]["dsc"]
    return (float("inf") if found is None else float(found)), case["name"]


def _value(value: float | None, digits: int) -> Cell:
    return Cell(format_number(value, digits), value=value)


def _total(classes: Mapping[str, Any], counted: Mapping[str, str], column: str) -> Cell:
    total = sum(int(classes[value].get(column) or 0) for value in counted)
    return Cell(str(total), value=total)


def _list_status(classes: Mapping[str, Any], counted: Mapping[str, str], status: str, most: int = 8) -> str:
    names = [name for value, name in counted.items() if classes[value]["status"] == status]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
