"""Writes docs/results/evidence.md from the records in docs/results/evidence, and a picture for each experiment.

``python docs/evidence.py`` reads the CSV files that ``deconvseg compare evidence/NAME --records
docs/results/evidence/NAME`` keeps. An experiment is on the page once a row of it is finished; every figure comes from
the records. What a person makes of an experiment is in ``docs/results/evidence/NAME/reading.md``, the lines at the top
are in ``docs/results/evidence/summary.md``. ``--check`` only compares;
``--merge FOLDER`` first adds records that were made elsewhere.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deconvseg.experiments import read_protocol, read_recorded
from deconvseg.experiments.protocols.records import merge_records
from deconvseg.reporting import TableResult, draw_efficiency
from deconvseg.reporting.results import ResultColumn
from deconvseg.reporting.results.statistics import PairedTest, compare_rows, reference_row, summarise
from deconvseg.reporting.style import write_picture

FOLDER = Path(__file__).parent / "results" / "evidence"
PAGE = FOLDER.with_suffix(".md")
QUESTIONS: Mapping[str, str] = {
    "networks": "Which network is best after the same time of training on a CPU?",
    "upsampling": "Does DTC improve a network, and does it improve it more than other learned upsampling?",
    "layer": "Does the deconvolution do anything that plain convolutions in its place do not?",
    "plan-hippocampus": "Which factor of the default plan is worth changing, in 3D?",
    "plan-dsb2018": "Which factor of the default plan is worth changing, in 2D?",
    "ceiling": "How good do the networks get in an hour?",
}


def experiments() -> Iterator[tuple[str, TableResult]]:
    """Yield the experiments of which a row is finished."""
    for name in QUESTIONS:
        table = read_recorded(f"evidence/{name}", FOLDER / name)
        if any(cell.status == "done" for row in table.rows for cell in row.cells):
            yield name, table


def text(value: float | None, digits: int, sign: str = "") -> str:
    """Return a number, or a dash."""
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    """Return the two ends of an interval, or a dash."""
    return "–" if bounds is None else f"{text(bounds[0], digits, sign)} to {text(bounds[1], digits, sign)}"


def p_value(value: float | None) -> str:
    """Return a p-value with three digits."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def draw_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def scores_of(name: str, table: TableResult, column: ResultColumn) -> Iterator[str]:
    """Yield the table of a column: a line for each row, finished or not."""
    reference = reference_row(table, column)
    tests: dict[str, PairedTest] = {test.row: test for test in compare_rows(table, column)}
    rows = []
    for row in table.rows:
        cell = table.cell(row.key, column.key)
        if cell is None:
            continue
        cost, found, steps = row.costs.get(column.dataset), summarise(cell), steps_of(name, column.dataset, row.key)
        line = [row.title, "–" if cost is None or cost.parameters is None else f"{cost.parameters:,}"]
        line += [text(None if cost is None else cost.kflops, 1), steps]
        if cell.status != "done":
            rows.append([*line, cell.reason, *["–"] * 6])
            continue
        digits = column.digits
        line += [text(found.case_mean, digits), text(found.sd, digits), interval(found.ci95, digits), str(found.cases)]
        if row.key == reference:
            rows.append([*line, "reference", "–", "–"])
            continue
        pair = tests.get(row.key)
        if pair is None:
            rows.append([*line, "–", "–", "–"])
            continue
        change, bounds = text(pair.difference.mean, digits, "+"), interval(pair.difference.ci95, digits, "+")
        rows.append([*line, f"{change} ({bounds})", p_value(pair.difference.p), p_value(pair.difference.p_holm)])
    unit = f" ({column.unit})" if column.unit else ""
    yield f"{title_of(name, column.dataset)}, {column.title}{unit}:\n"
    heads = ["row", "parameters", "K operations / voxel", "steps", "mean", "SD of seeds", "95 % interval", "cases"]
    yield from draw_table([*heads, "difference (95 %)", "p", "p, Holm"], rows)


def title_of(name: str, dataset: str) -> str:
    """Return the title of a dataset of an experiment."""
    return read_protocol(f"evidence/{name}").dataset(dataset).title or dataset


def trainings(name: str, dataset: str) -> list[dict[str, str]]:
    """Return the recorded trainings of an experiment on a dataset."""
    file = FOLDER / name / f"{dataset}-cells.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def steps_of(name: str, dataset: str, row: str) -> str:
    """Return the steps that the trainings of a row made."""
    found = {line["steps"] for line in trainings(name, dataset) if line["row"] == row}
    return " or ".join(sorted(found)) or "–"


def origin_of(name: str, table: TableResult) -> Iterator[str]:
    """Yield how the cells were made: command, seeds, machines and commits."""
    lines = [line for dataset in table.datasets for line in trainings(name, dataset)]
    time = read_protocol(f"evidence/{name}").time
    hours = sum(float(line["seconds"] or 0) * int(line["threads"] or 1) for line in lines) / 3600
    known = {key: ", ".join(sorted({line[key] for line in lines if line[key]})) for key in lines[0]}
    yield (
        f"Seeds {', '.join(map(str, table.seeds))}; {len(lines)} trainings, {hours:.1f} core-hours under the load of "
        f"the machine; {known['processor']}, {known['threads']} thread; PyTorch {known['torch']}; commits "
        f"{known['commit']}.\n"
    )
    if time is not None:
        yield (
            f"Steps are those of {time.seconds / 60:g} minutes with {time.threads} threads of a {time.processor}, by "
            f"the [protocol](../../src/deconvseg/catalog/protocols/evidence/{name}.json).\n"
        )
    records = f"docs/results/evidence/{name}"
    yield f"```sh\ndeconvseg compare evidence/{name} --data $DECONVSEG_DATA -o OUT --records {records}\n```\n"


def render(found: Sequence[tuple[str, TableResult]]) -> str:
    """Return the page."""
    lines = ["# Evidence\n"]
    summary = FOLDER / "summary.md"
    if summary.is_file():
        lines.append(summary.read_text(encoding="utf-8"))
    lines.append(
        "Every row of an experiment has the same patch, batch, augmentation and recipe. The mean is over the cases, "
        "each the mean of its seeds; SD is that of the means of the seeds; the interval is a bootstrap of the cases. "
        "p is that of Wilcoxon's signed-rank test of the cases, paired after averaging the seeds, and Holm corrects it "
        "for the rows of a table. A row without figures is not finished.\n"
    )
    for name, table in found:
        lines.append(f"## {table.title}\n\n{QUESTIONS[name]}\n")
        for column in table.columns:
            lines += scores_of(name, table, column)
        for dataset in table.datasets:
            picture = FOLDER / name / f"{dataset}.png"
            if picture.is_file():
                lines.append(f"![{table.title}, {title_of(name, dataset)}](evidence/{name}/{picture.name})\n")
        reading = FOLDER / name / "reading.md"
        if reading.is_file():
            lines.append(reading.read_text(encoding="utf-8"))
        lines += [f"- {note}" for note in table.notes]
        lines.append("")
        lines += origin_of(name, table)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page and its pictures, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--merge",
        type=Path,
        metavar="FOLDER",
        help="first add the records of other folders: FOLDER/NAME has those of evidence/NAME",
    )
    parser.add_argument("--check", action="store_true", help="compare the page with the records and write nothing")
    options = parser.parse_args()
    for name in QUESTIONS if options.merge is not None else ():
        if any((options.merge / name).glob("*.csv")):
            print(f"{name}: {', '.join(merge_records(options.merge / name, FOLDER / name))}")
    found = list(experiments())
    if not found:
        sys.exit("no experiment is finished in docs/results/evidence")
    if options.check:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == render(found)
        sys.exit(None if same else "docs/results/evidence.md differs from the records: run python docs/evidence.py")
    for name, table in found:
        for dataset in table.datasets:
            column = next(column.key for column in table.columns if column.dataset == dataset)
            figure = draw_efficiency(table, column)
            if figure is not None:
                write_picture(figure, FOLDER / name / f"{dataset}.png", dpi=120)
    PAGE.write_text(render(found), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
