"""The figures that a protocol names, drawn from the finished cells of its table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import torch

from deconvseg._version import __version__
from deconvseg.errors import DeconvsegError
from deconvseg.experiments.protocols.asking import Table
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.reading import find_network, preset_of
from deconvseg.experiments.protocols.schema import ProtocolFigure, ProtocolRow
from deconvseg.experiments.protocols.shown import choose_shown, read_case, run_of
from deconvseg.inference import map_sampling
from deconvseg.models import create_model
from deconvseg.nn.upsampling import SamplingLayer
from deconvseg.progress import Console, each
from deconvseg.reporting import draw_efficiency, draw_networks, draw_sampling
from deconvseg.reporting.results import ResultFigure, TableResult
from deconvseg.reporting.style import write_picture
from deconvseg.system import one_line
from deconvseg.text import dump_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDER = "figures"
_WAITING = "the cells are not finished yet"
# What drawing may raise for masks and weights that are missing or damaged, and for a lack of memory.
_ERRORS = (DeconvsegError, MemoryError, OSError, RuntimeError, ValueError)
# Fifteen columns of the widest table at this resolution are 3,500 pixels.
_DPI = 120


@dataclass(frozen=True)
class _Sources:
    """The cells of a figure's rows by dataset and title of the row, and why other rows are absent, by their title."""

    figure: ProtocolFigure
    cells: Mapping[str, Mapping[str, Cell]]
    absent: Mapping[str, str]

    @property
    def note(self) -> str:
        """What the figure leaves out, in words."""
        groups: dict[str, list[str]] = {}
        for title, reason in self.absent.items():
            groups.setdefault(reason, []).append(title)
        return "; ".join(f"without {', '.join(titles)} ({reason})" for reason, titles in groups.items())


def list_figures(
    table: Table, cells: Sequence[Cell], result: TableResult, earlier: Sequence[ResultFigure]
) -> list[ResultFigure]:
    """Return the figures of a table without drawing any: those of an ``earlier`` result whose sources are the same."""
    known = {figure.name: figure for figure in earlier}
    found = []
    for figure in table.protocol.figures:
        key = _key(table, _sources(table, figure, cells), result)
        one = known.get(figure.name)
        kept = one is not None and one.key == key and (table.output / one.file).is_file() and bool(one.file)
        found.append(
            one
            if one is not None and kept
            else ResultFigure(name=figure.name, shows=figure.shows, reason=_WAITING, key=key)
        )
    return found


def draw_figures(
    table: Table, cells: Sequence[Cell], result: TableResult, earlier: Sequence[ResultFigure], console: Console
) -> list[ResultFigure]:
    """Draw the figures whose sources differ from those of ``earlier`` ones; one that fails says why."""
    listed = list_figures(table, cells, result, earlier)
    waiting = [figure for figure in listed if not figure.file]
    drawn = {
        figure.name: _try(table, cells, result, figure, console)
        for figure in each(waiting, "drawing figures", console, lambda figure: figure.name)
    }
    return [drawn.get(figure.name, figure) for figure in listed]


def _try(
    table: Table, cells: Sequence[Cell], result: TableResult, listed: ResultFigure, console: Console
) -> ResultFigure:
    figure = next(one for one in table.protocol.figures if one.name == listed.name)
    sources = _sources(table, figure, cells)
    file = f"{_FOLDER}/{re.sub(r'[^a-z0-9]+', '-', figure.name.lower()).strip('-')}.png"
    try:
        write_picture(_draw(table, sources, result), table.output / file, dpi=_DPI)
    except _ERRORS as error:
        reason = one_line(error)
        console.say(f"{figure.name}: not drawn: {reason}")
        # An earlier picture would show other cells.
        (table.output / file).unlink(missing_ok=True)
        return listed.model_copy(update={"reason": reason})
    return listed.model_copy(update={"file": file, "reason": "", "note": sources.note})


def _sources(table: Table, figure: ProtocolFigure, cells: Sequence[Cell]) -> _Sources:
    """Return the finished cells of the first seed; only networks that have one on every dataset are shown."""
    rows = [row for row in table.protocol.rows if not figure.rows or row.key in figure.rows]
    finished = {(cell.dataset, cell.row): cell for cell in cells if cell.seed == table.seeds[0] and cell.finished}
    names = [
        name
        for name in table.data
        if name in (figure.datasets or table.data) and any((name, row.key) in finished for row in rows)
    ]
    shown, absent = [], {}
    for row in rows if figure.shows != "cost" else ():
        if figure.shows == "sampling" and not _samples(table, row):
            absent[row.title] = "no learned positions"
        elif row.key not in table.rows:
            absent[row.title] = "left out"
        elif not names or any((name, row.key) not in finished for name in names):
            absent[row.title] = "not finished"
        else:
            shown.append(row)
    return _Sources(figure, {name: {row.title: finished[name, row.key] for row in shown} for name in names}, absent)


def _samples(table: Table, row: ProtocolRow) -> bool:
    """Return whether a row's network has an upsampling with learned positions; an ensemble has no positions."""
    if row.members:
        return False
    dataset = next(one for one in table.protocol.datasets if row.datasets is None or one.name in row.datasets)
    model, arguments = find_network(row, preset_of(dataset), row.key)
    with torch.device("meta"):
        network = create_model(model, **table.scale.network(model, arguments))
    return any(isinstance(module, SamplingLayer) for module in network.modules())


def _key(table: Table, sources: _Sources, result: TableResult) -> str:
    """Return a hash of everything that a figure shows."""
    parts: list[object] = [__version__, sources.figure.model_dump(mode="json")]
    if sources.figure.shows == "cost":
        parts += [row.model_dump(mode="json", exclude={"network"}) for row in result.rows]
    for name, cells in sources.cells.items():
        parts += [[name, title, cell.read()] for title, cell in cells.items()]
    return sha256(dump_json(parts).encode()).hexdigest()


def _draw(table: Table, sources: _Sources, result: TableResult) -> Figure:
    figure = sources.figure
    if figure.shows == "cost":
        drawn = draw_efficiency(result, figure.column)
        if drawn is None:
            raise DeconvsegError("no row has a score and a size")
        return drawn
    if not any(sources.cells.values()):
        raise DeconvsegError(f"no row to show: {sources.note}")
    if figure.shows == "sampling":
        return _draw_sampling(table, sources)
    return _draw_masks(table, sources, figure.shows)


def _draw_masks(table: Table, sources: _Sources, look: Literal["errors", "masks", "classes"]) -> Figure:
    cases, labels, colours = [], {}, {}
    for name, cells in sources.cells.items():
        for shown in choose_shown(table.protocol, name, cells, sources.figure.cases):
            case, plan = read_case(table.data[name], cells, shown, sources.figure.crops)
            cases.append(case)
            labels.update(dict(enumerate(plan.labels.names)))
            colours.update(plan.colours or {})
    return draw_networks(cases, look=look, labels={id: name for id, name in labels.items() if id}, colours=colours)


def _draw_sampling(table: Table, sources: _Sources) -> Figure:
    maps = {}
    for name, cells in sources.cells.items():
        for shown in choose_shown(table.protocol, name, cells, sources.figure.cases):
            for title, cell in cells.items():
                run = run_of(cell, shown.fold)
                found = map_sampling(run, cell.root, case=shown.case, weights=table.protocol.weights)
                maps[f"{title}, {shown.case}"] = found
    return draw_sampling(maps)
