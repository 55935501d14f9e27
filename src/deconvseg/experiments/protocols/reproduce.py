"""``reproduce`` and ``compare``: the cells of a protocol, and the table that they make."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from deconvseg.errors import InterruptionError
from deconvseg.experiments.executor import choose_executor
from deconvseg.experiments.protocols.asking import Table, read_request
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.costs import count_costs
from deconvseg.experiments.protocols.figures import draw_figures, list_figures
from deconvseg.experiments.protocols.records import record, restore
from deconvseg.experiments.protocols.results import Progress, gather
from deconvseg.experiments.protocols.splitting import divide, write_folds
from deconvseg.experiments.tasks import Executor
from deconvseg.options import OBJECT, Option, ReproduceOptions, takes
from deconvseg.progress import Console, choose_console
from deconvseg.reporting.results import RESULT_FILE, ResultFigure, TableResult, read_results, write_results
from deconvseg.system import hold, make_folder
from deconvseg.text import number_of


@dataclass(frozen=True)
class _Arguments(ReproduceOptions):
    executor: Annotated[
        Executor | None, Option("What runs the cells; chosen by ``jobs`` if not given.", OBJECT, resume="call")
    ] = None


@takes(_Arguments)
def reproduce(asked: _Arguments) -> TableResult:
    """Make a table of the papers: a cross-validation for each row, dataset and seed, and the files of the result.

    ``protocol`` is one of :func:`list_protocols`; :func:`compare` takes a file. Everything that is named or needed is
    checked before anything is trained. Finished cells are kept with ``resume``; a failing cell does not stop the
    others. After every cell the files of the result are written, so an interrupted table has what is known so far.

    Example:
        >>> from deconvseg.experiments import reproduce
        >>> result = reproduce("dtc/table-7", "table")
        >>> [row.costs["isic"].parameters for row in result.rows][0]
        17262977

    """
    return _make(asked, own=False)


@takes(_Arguments)
def compare(asked: _Arguments) -> TableResult:
    """Compare networks by a protocol of your own, a JSON file: a cross-validation for each row, dataset and seed.

    ``protocol`` may also be one of :func:`list_comparisons`. Arguments, cells, files and ``resume`` are those of
    :func:`reproduce`. `Protocol` describes the file, and ``read_protocol(name).model_dump(mode="json")`` is one of the
    papers to start from.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from deconvseg.experiments import compare, read_protocol
        >>> tree = read_protocol("dtc/table-7").model_dump(mode="json", exclude_defaults=True)
        >>> tree |= {"key": "mine/table", "rows": tree["rows"][:2], "published": None}
        >>> file = Path("mine.json")
        >>> size = file.write_text(json.dumps(tree))
        >>> [row.costs["isic"].parameters for row in compare(file, "mine").rows]
        [17262977, 17293825]

    """
    return _make(asked, own=True)


def _make(asked: _Arguments, *, own: bool) -> TableResult:
    console = choose_console(asked.console)
    table = read_request(asked, console, own=own)
    table.check_output()
    with hold(make_folder(table.output)):
        table.write_record()
        _divide(table, console)
        executor = choose_executor(asked.jobs, asked.device) if asked.executor is None else asked.executor
        costs = count_costs(table.protocol, table.scale, console)
        progress = Progress(table.cells(), costs, figures=_read_figures(table))
        _restore(table, progress, console)
        _write(table, progress)
        try:
            _run(table, progress, executor, console)
            return _finish(table, progress, console)
        except KeyboardInterrupt:
            raise InterruptionError(
                f"interrupted; the table so far is in {table.output}, finished cells are kept, continue with "
                "`resume=True`"
            ) from None


def _restore(table: Table, progress: Progress, console: Console) -> None:
    """Take the finished cells of the records, and say which are recorded as they are no longer defined."""
    if table.asked.records is None:
        return
    restored, differing = restore(progress.cells, Path(table.asked.records))
    if restored:
        console.say(f"{number_of(len(restored), 'cell')} finished in {table.asked.records}")
    for cell in differing:
        console.say(f"{cell.key}: recorded in {table.asked.records} by another definition: trained again")


def _read_figures(table: Table) -> Sequence[ResultFigure]:
    """Return the figures of the result that is continued."""
    known = table.asked.resume and (table.output / RESULT_FILE).is_file()
    return read_results(table.output).figures if known else ()


def _divide(table: Table, console: Console) -> None:
    """Write the folds of every dataset, which all its cells share; a continued table keeps them."""
    for name, dataset in table.data.items():
        file, asks = table.splits(name), table.protocol.dataset(name)
        if not (table.asked.resume and file.is_file()):
            parts = divide(
                dataset,
                folds=table.folds,
                seed=0,
                most=table.scale.most_cases,
                tested=asks.test is not None,
                share=asks.test_share,
                console=console,
            )
            write_folds(file, parts)


def _run(table: Table, progress: Progress, executor: Executor, console: Console) -> None:
    """Run the cells that are not finished, those of ensembles after those of their members."""
    trained = [cell for cell in progress.cells if cell.members is None]
    averaged = [cell for cell in progress.cells if cell.members is not None]
    for cells in (trained, averaged):
        ready = [cell for cell in cells if not cell.finished and not _lacks(cell, progress)]
        if ready:
            console.say(f"{number_of(len(cells), 'cell')}, {len(ready)} to run")
            _run_all(table, ready, progress, executor, console)


def _run_all(table: Table, cells: Sequence[Cell], progress: Progress, executor: Executor, console: Console) -> None:
    with (
        console.track(f"cells of {table.protocol.key}", len(cells)) as count,
        closing(executor.run([cell.task() for cell in cells], console)) as outcomes,
    ):
        for done, outcome in enumerate(outcomes, start=1):
            if outcome.problem is not None:
                progress.problems[outcome.task.key] = outcome.problem
                console.say(f"{outcome.task.key}: failed: {outcome.problem}")
            count(done)
            _write(table, progress)


def _lacks(cell: Cell, progress: Progress) -> bool:
    """Return whether a member of an ensemble is not finished, and record why."""
    members = {other.row: other for other in progress.cells if (other.dataset, other.seed) == (cell.dataset, cell.seed)}
    lacking = [key for key in cell.members or () if key not in members or not members[key].finished]
    if lacking:
        progress.problems[cell.key] = f"its members {', '.join(lacking)} are not finished"
    elif lacking := [key for key in cell.members or () if not members[key].runs.is_dir()]:
        progress.problems[cell.key] = f"its members {', '.join(lacking)} were trained elsewhere"
    return bool(lacking)


def _write(table: Table, progress: Progress) -> TableResult:
    """Write the result so far, with the figures that are still true."""
    result = gather(table, progress)
    if table.asked.records is not None:
        record(progress.cells, progress.costs, Path(table.asked.records))
    figures = list_figures(table, progress.cells, result, progress.figures)
    result = result.model_copy(update={"figures": tuple(figures)})
    write_results(result, table.output)
    return result


def _finish(table: Table, progress: Progress, console: Console) -> TableResult:
    """Write the result with its figures."""
    result = gather(table, progress)
    figures = draw_figures(table, progress.cells, result, progress.figures, console)
    result = result.model_copy(update={"figures": tuple(figures)})
    write_results(result, table.output)
    return result
