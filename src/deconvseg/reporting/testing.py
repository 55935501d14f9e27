"""The section on the test cases of a cross-validation: each fold's model, and their average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deconvseg.evaluation.definition import MetricInfo
from deconvseg.reporting.class_tables import format_number
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.rendering import Section
from deconvseg.reporting.sections import name_unit
from deconvseg.reporting.tables import Cell, Column, Row, Table


def tested_sections(evaluations: Sequence[EvaluationRecord], colours: Mapping[str, str]) -> Iterator[Section]:
    """Yield the section of a cross-validation whose models were scored on test cases."""
    for record in evaluations:
        test = record.tree.get("test")
        if test and test["spread"]:
            unit = name_unit(record.tree)
            tables = [
                (metric.head(unit), _tabulate(test, metric, colours))
                for metric in record.shown
                if all(metric.key in row for row in (test["spread"]["mean"], *test["spread"]["classes"].values()))
            ]
            content = {"cases": test["cases"], "tables": tables, "average": test["average"]}
            yield Section("test", "Test cases", "test", content)


def _tabulate(test: Mapping[str, Any], metric: MetricInfo, colours: Mapping[str, str]) -> Table:
    rows = [(row["name"], row[metric.key]) for row in test["spread"]["classes"].values() if row["counted"]]
    if len(rows) > 1:
        rows.append(("mean over classes", test["spread"]["mean"][metric.key]))
    columns = (
        Column("Class"),
        *(Column(f"fold {entry['fold']}") for entry in test["folds"]),
        *(Column("mean", "over folds"), Column("SD", "over folds"), Column("average", "of the folds' probabilities")),
    )
    return Table(
        columns,
        tuple(
            Row(
                (
                    Cell(name, colour=colours.get(name, "")),
                    *(Cell(format_number(mean, metric.digits)) for mean in found["fold_means"]),
                    *(Cell(format_number(found[key], metric.digits)) for key in ("mean", "std_folds", "average")),
                )
            )
            for name, found in rows
        ),
    )
