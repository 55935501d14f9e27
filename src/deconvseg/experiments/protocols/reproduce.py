"""``reproduce``: the cells of a protocol, and the table that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from deconvseg.catalog import CARDS, PRESETS
from deconvseg.data import Dataset, list_names, read_json_object, report_problems
from deconvseg.errors import InputError, InterruptionError, check_choice
from deconvseg.experiments.executor import choose_executor
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.finding import find_datasets
from deconvseg.experiments.protocols.reading import check_protocol, preset_name, read_protocol
from deconvseg.experiments.protocols.results import count_costs, gather
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol
from deconvseg.experiments.protocols.splitting import divide, read_folds_of, write_folds
from deconvseg.experiments.tasks import Executor
from deconvseg.options import OBJECT, Option, ReproduceOptions, takes
from deconvseg.progress import Console, choose_console
from deconvseg.reporting.results import RESULT_FILE, Scaled, TableResult, write_results
from deconvseg.system import hold, make_folder, write_text
from deconvseg.text import dump_json, number_of
from deconvseg.units import format_time

_RECORD = "protocol.json"
_CELLS, _SPLITS = "cells", "splits"


@dataclass(frozen=True)
class _Arguments(ReproduceOptions):
    executor: Annotated[
        Executor | None, Option("What runs the cells; chosen by ``jobs`` if not given.", OBJECT, resume="call")
    ] = None


@takes(_Arguments)
def reproduce(asked: _Arguments) -> TableResult:
    """Make the table of a protocol: a cross-validation for each row, dataset and seed, and the files of the result.

    Everything that is named or needed is checked before anything is trained. Finished cells are kept with ``resume``;
    a failing cell does not stop the others. After every cell the files of the result are written, so an interrupted
    table has what is known so far.

    Example:
        >>> from deconvseg.experiments import reproduce
        >>> result = reproduce("dtc/table-7", "table")
        >>> [row.costs["isic"].parameters for row in result.rows][0]
        17262977

    """
    console = choose_console(asked.console)
    protocol, scale = read_protocol(asked.protocol), _scale(asked)
    rows = _choose(asked.rows, [row.key for row in protocol.rows], "`rows`: row")
    names = _choose(asked.datasets, [dataset.name for dataset in protocol.datasets], "`datasets`: dataset")
    output = Path(asked.output)
    folds, seeds = scale.folds(asked.folds, protocol.folds), tuple(range(asked.seeds or len(protocol.seeds)))
    if asked.weights is not None:
        protocol = protocol.model_copy(update={"weights": asked.weights})
    if asked.recipe is not None:
        protocol = protocol.model_copy(update={"recipe": asked.recipe})
    check_protocol(protocol, asked.protocol)
    data: dict[str, Dataset] = {}
    if protocol.trains:
        data = find_datasets(asked.places, names)
        for name, dataset in data.items():
            console.say(f"{name}: {dataset.root} ({dataset.layout}, {number_of(len(dataset.cases), 'case')})")
            _check_dataset(name, dataset, partial=asked.incomplete or scale.most_cases is not None)
    record = {
        "protocol": protocol.model_dump(mode="json"),
        "scale": asdict(scale),
        "folds": folds,
        "values": dict(asked.values or {}),
    }
    _check_output(output, record, asked.resume)
    with hold(make_folder(output)):
        write_text(output / _RECORD, dump_json(record) + "\n")
        return _run(asked, protocol, scale, rows, data, folds, seeds, output, console)


def _run(
    asked: _Arguments,
    protocol: Protocol,
    scale: Scale,
    rows: Sequence[str],
    data: Mapping[str, Dataset],
    folds: int,
    seeds: Sequence[int],
    output: Path,
    console: Console,
) -> TableResult:
    costs = count_costs(protocol, scale, console)
    scaled = _describe_scale(protocol, scale, folds, seeds, data)
    for name, dataset in data.items():
        file = output / _SPLITS / f"{name}.json"
        if not (asked.resume and file.is_file()):
            asks = protocol.dataset(name)
            parts = divide(
                dataset,
                folds=folds,
                seed=0,
                most=scale.most_cases,
                tested=asks.test is not None,
                share=asks.test_share,
                console=console,
            )
            write_folds(file, parts)
        scaled += _describe_cases(name, dataset, read_folds_of(file))
    cells = _cells(asked, protocol, scale, rows, data, seeds, output)
    left_out = {row.key: "left out (`rows`)" for row in protocol.rows if row.key not in rows}
    left_out |= {one.name: "left out (`datasets`)" for one in protocol.datasets if one.name not in data}
    problems: dict[str, str] = {}

    def write() -> TableResult:
        result = gather(
            protocol,
            cells,
            problems=problems,
            left_out=left_out,
            costs=costs,
            scale=scale,
            scaled=scaled,
            folds=folds,
            seeds=seeds,
            command=asked.command or "",
        )
        write_results(result, output)
        return result

    write()
    executor = choose_executor(asked.jobs, asked.device) if asked.executor is None else asked.executor
    try:
        for wave in ([c for c in cells if c.members is None], [c for c in cells if c.members is not None]):
            waiting = [cell for cell in wave if not _finished(cell)]
            ready = [cell for cell in waiting if not _lacks(cell, cells, problems)]
            if not ready:
                continue
            console.say(f"{number_of(len(wave), 'cell')}, {len(ready)} to run")
            keys = {cell.key: cell for cell in ready}
            with (
                console.track(f"cells of {protocol.key}", len(ready)) as progress,
                closing(executor.run([cell.task() for cell in ready], console)) as outcomes,
            ):
                for done, outcome in enumerate(outcomes, start=1):
                    if outcome.problem is not None:
                        problems[keys[outcome.task.key].key] = outcome.problem
                        console.say(f"{outcome.task.key}: failed: {outcome.problem}")
                    progress(done)
                    write()
    except KeyboardInterrupt:
        raise InterruptionError(
            f"interrupted; the table so far is in {output}, finished cells are kept, continue with `resume=True`"
        ) from None
    return write()


def _scale(asked: _Arguments) -> Scale:
    return Scale(
        share=asked.scale,
        steps=asked.steps,
        narrow=asked.narrow,
        patch=asked.patch_size,
        cases=asked.cases,
        seconds=asked.max_seconds,
        batch=asked.batch_size,
    )


def _choose(asked: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names asked for, in the order of the protocol; all by default."""
    for name in asked or ():
        check_choice(name, known, what)
    return tuple(name for name in known if not asked or name in asked)


def _check_dataset(name: str, data: Dataset, *, partial: bool) -> None:
    """Raise an error for a dataset with unusable cases, or with fewer than published unless a part is asked for."""
    labelled = data.labelled_names
    report_problems(data, labelled)
    card = CARDS.get(name)
    stated = 0 if card is None else sum(card.counts[part] for part in card.masks)
    if len(labelled) < stated and not partial:
        raise InputError(
            f"{name}: {data.root} has {len(labelled)} of the {stated} cases with masks that its publisher states; "
            f"complete it ('deconvseg data card {name}'), or train on what is there (`incomplete`)"
        )
    if not labelled:
        raise InputError(f"{name}: {data.root} has no case with a mask; see 'deconvseg data card {name}'")


def _check_output(output: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Raise an error for a folder with another table, or one to be continued without ``resume``."""
    file = output / _RECORD
    if not file.is_file():
        if output.is_dir() and any(path.name != ".lock" for path in output.iterdir()):
            raise InputError(f"{output}: is not empty and holds no table; choose another folder (`output`)")
        return
    if not resume and not (output / RESULT_FILE).is_file():
        # It was ended before its first cell, and is started again.
        return
    if not resume:
        raise InputError(f"{output}: holds a table already; continue it with `resume=True`, or choose another folder")
    known = read_json_object(file)
    if changed := [key for key in record if known.get(key) != record[key]]:
        raise InputError(
            f"{output}: was started with another {list_names(changed)}; continue it with the same, or choose another "
            "folder (`output`)"
        )


def _cells(
    asked: _Arguments,
    protocol: Protocol,
    scale: Scale,
    rows: Sequence[str],
    data: Mapping[str, Dataset],
    seeds: Sequence[int],
    output: Path,
) -> list[Cell]:
    found = []
    for name, dataset in data.items():
        for key in rows:
            row = protocol.row(key)
            if row.datasets is not None and name not in row.datasets:
                continue
            for seed in seeds:
                cell = Cell(
                    protocol=protocol.model_dump(mode="json"),
                    row=key,
                    dataset=name,
                    seed=seed,
                    root=str(dataset.root.absolute()),
                    splits=str((output / _SPLITS / f"{name}.json").absolute()),
                    output=str(_folder(output, name, key, seed).absolute()),
                    scale=asdict(scale),
                    values=dict(asked.values or {}),
                    weights=protocol.weights,
                    device=asked.device,
                    workers=asked.workers,
                    cache=asked.cache if asked.cache is None else str(Path(asked.cache).absolute()),
                )
                if row.members:
                    folders = {member: str(_folder(output, name, member, seed).absolute()) for member in row.members}
                    cell = replace(cell, members=folders)
                found.append(cell)
    return found


def _folder(output: Path, dataset: str, row: str, seed: int) -> Path:
    return output / _CELLS / re.sub(r"[^\w.+-]", "-", f"{dataset}-{row}-seed{seed}")


def _finished(cell: Cell) -> bool:
    record = cell.read()
    return record is not None and not record["failed"]


def _lacks(cell: Cell, cells: Sequence[Cell], problems: dict[str, str]) -> bool:
    """Return whether a member of an ensemble is not finished, and record why."""
    if cell.members is None:
        return False
    members = {other.row: other for other in cells if (other.dataset, other.seed) == (cell.dataset, cell.seed)}
    lacking = [key for key in cell.members if key not in members or not _finished(members[key])]
    if lacking:
        problems[cell.key] = f"its members {', '.join(lacking)} are not finished"
    return bool(lacking)


def _describe_scale(
    protocol: Protocol, scale: Scale, folds: int, seeds: Sequence[int], data: Mapping[str, Dataset]
) -> list[Scaled]:
    found = []
    if folds != protocol.folds:
        found.append(Scaled(what="folds", paper=str(protocol.folds), here=str(folds)))
    if scale.divisor > 1:
        found.append(Scaled(what="widths of the networks", paper="as published", here=f"1/{scale.divisor}, at least 8"))
    for name in data:
        size = PRESETS[preset_name(protocol.dataset(name))].patch_size
        if (here := scale.size(size)) != size:
            found.append(Scaled(what=f"patch, {name}", paper=_times(size), here=_times(here)))
    if scale.rehearses or scale.steps is not None:
        steps = f"{scale.steps} at most" if scale.steps else f"times {scale.share:g}, from 10 to 50"
        found.append(Scaled(what="steps of a training", paper="the recipe's", here=steps))
    if scale.batch is not None:
        found.append(Scaled(what="batch", paper="the preset's", here=str(scale.batch)))
    if scale.seconds is not None:
        found.append(Scaled(what="time of a training", paper="no limit", here=f"at most {format_time(scale.seconds)}"))
    return found


def _describe_cases(name: str, data: Dataset, parts: Sequence[Any]) -> list[Scaled]:
    card = CARDS.get(name)
    stated = sum(card.counts[part] for part in card.masks) if card is not None else len(data.labelled_names)
    used = {case for part in parts for case in (*part.train, *part.val)}
    test = set(parts[0].test)
    if len(used) + len(test) >= stated:
        return []
    told = f"{len(used)} divided into folds" + (f", {len(test)} for testing" if test else "")
    return [Scaled(what=f"cases, {name}", paper=str(stated), here=told)]


def _times(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
