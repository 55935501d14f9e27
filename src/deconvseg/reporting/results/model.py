"""The result of a table of a paper: what was measured, what is published, and what is missing."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.text import dump_json, escape_controls

RESULT_FILE = "result.json"

Status = Literal["done", "failed", "not run"]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Base class of the parts: strict, without unknown keys, and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FoldScore(Part):
    """The score of one fold and seed in the unit of its column; None if no case of the fold has a value."""

    fold: Annotated[int, Field(ge=0)]
    value: Finite | None
    seed: int = 0


class CaseScore(Part):
    """The score of a case by the model of one fold and seed that was not trained on it; None for no value.

    A case of a test set has one entry for each fold.
    """

    case: str
    value: Finite | None
    fold: Annotated[int, Field(ge=0)] = 0
    seed: int = 0


class PrintedScore(Part):
    """A score as a paper prints it, with its standard deviation if that is printed."""

    value: Finite
    sd: Finite | None = None


class Cost(Part):
    """The exact number of parameters, and the true cost in thousands of operations per pixel or voxel.

    ``kflops`` counts two operations for each multiply-accumulate (`deconvseg.models.complexity`). ``seconds`` are those
    of the prediction of one patch, if they were measured.
    """

    parameters: Annotated[int, Field(ge=0)] | None = None
    kflops: Finite | None = None
    seconds: Finite | None = None


class ResultColumn(Part):
    """A column: one metric of one structure of one dataset.

    ``metric`` is the key of a registered metric, such as "dsc", "hd95" or "nsd". ``structure`` is a class or a region;
    empty means the mean over all of them. All values of the column are in ``unit``: overlaps as the papers print them,
    in "%", distances in "mm", "voxel" or "pixel". ``digits`` are those of the printed table.
    """

    key: str
    dataset: str
    metric: str
    title: str
    structure: str = ""
    unit: str = ""
    digits: Annotated[int, Field(ge=0, le=9)] = 2
    better: Literal["higher", "lower", "zero"] = "higher"


class ResultCell(Part):
    """What is known of one row in one ``column`` (its key).

    ``status`` is "done" with ``folds`` and ``cases``, "failed" with the ``reason`` in one line (scores of finished
    folds are kept), or "not run" with the ``reason``. ``published`` is the paper's score, ``run`` the folder of the
    cross-validation relative to that of the result.
    """

    column: str
    status: Status
    folds: Annotated[tuple[FoldScore, ...], BeforeValidator(_tuple)] = ()
    cases: Annotated[tuple[CaseScore, ...], BeforeValidator(_tuple)] = ()
    published: PrintedScore | None = None
    reason: str = ""
    run: str = ""

    @model_validator(mode="after")
    def _check(self) -> "ResultCell":
        if self.status == "done" and not self.folds:
            raise ValueError(f"the cell of {self.column} is done but has no scores of folds")
        if self.status != "done" and not self.reason:
            raise ValueError(f"the cell of {self.column} is {self.status} and has no reason")
        return self


class ResultRow(Part):
    """A network of the table: its title, its registered model with arguments, its cost, and its cells.

    ``costs`` has one entry per dataset, because the size of some networks depends on that of the image.
    ``published_parameters`` and ``published_cost`` are as printed, with their units ("10.5M", "607.0K/voxel").
    """

    key: str
    title: str
    model: str
    cells: Annotated[tuple[ResultCell, ...], BeforeValidator(_tuple)]
    network: dict[str, Any] = {}
    costs: dict[str, Cost] = {}
    published_parameters: str = ""
    published_cost: str = ""


class Scaled(Part):
    """A setting that differs from the paper's: what it is, the paper's value, and the value here."""

    what: str
    paper: str
    here: str


class ResultFigure(Part):
    """A figure of the table: its ``file`` relative to the result, or the ``reason`` why there is none.

    ``shows`` is what the protocol asks for (cost, errors, masks, classes or sampling), ``note`` says what is left out,
    ``key`` what it was made from.
    """

    name: str
    shows: str = ""
    file: str = ""
    note: str = ""
    reason: str = ""
    key: str = ""


class TableResult(Part):
    """A table of a paper as it was reproduced, or any table of networks and datasets.

    Attributes:
        key: the name of the protocol, such as "deconver/table-1".
        title: the heading of the table.
        paper: the source of the published scores.
        columns: the columns, in the order of the printed table.
        rows: the networks.
        reference: key of the row that the paired tests compare the others with; None for the best row of a column.
        scaled: settings that differ from the paper's.
        figures: the figures that were made from it.
        notes: readings of unclear places and anything else to know, one sentence each.
        folds: number of folds that were asked for.
        seeds: seeds of the trainings.
        command: the command that made it.
        made: date and time.
        versions: packages, and the machine.

    Example:
        >>> from deconvseg.reporting import TableResult
        >>> table = TableResult(key="mine/table-1", title="Two networks", columns=(), rows=())
        >>> TableResult.parse(table.to_json(), "result.json") == table
        True

    """

    key: str
    title: str
    columns: Annotated[tuple[ResultColumn, ...], BeforeValidator(_tuple)]
    rows: Annotated[tuple[ResultRow, ...], BeforeValidator(_tuple)]
    paper: str = ""
    reference: str | None = None
    scaled: Annotated[tuple[Scaled, ...], BeforeValidator(_tuple)] = ()
    figures: Annotated[tuple[ResultFigure, ...], BeforeValidator(_tuple)] = ()
    notes: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()
    folds: Annotated[int, Field(ge=1)] | None = None
    seeds: Annotated[tuple[int, ...], BeforeValidator(_tuple)] = (0,)
    command: str = ""
    made: str = ""
    versions: dict[str, str] = {}
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _check(self) -> "TableResult":
        columns, rows = [column.key for column in self.columns], [row.key for row in self.rows]
        for names, what in ((columns, "columns"), (rows, "rows")):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {what} have the key {twice[0]!r}")
        for row in self.rows:
            found = [cell.column for cell in row.cells]
            if others := sorted(set(found) - set(columns)):
                raise ValueError(f"the row {row.key!r} has a cell of {others[0]!r}, which is no column")
            if len(found) > len(set(found)):
                raise ValueError(f"the row {row.key!r} has two cells of a column")
        if self.reference is not None and self.reference not in rows:
            raise ValueError(f"the reference {self.reference!r} is no row")
        return self

    def cell(self, row: str, column: str) -> ResultCell | None:
        """Return the cell of a row and a column, by their keys; None where the table has none."""
        cells = (cell for each in self.rows if each.key == row for cell in each.cells)
        return next((cell for cell in cells if cell.column == column), None)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of the columns, in their order."""
        return tuple(dict.fromkeys(column.dataset for column in self.columns))

    def to_json(self) -> dict[str, Any]:
        """Return plain types, which :meth:`parse` reads."""
        return self.model_dump(mode="json")

    @classmethod
    def parse(cls, tree: Any, source: str) -> "TableResult":
        """Return the result of a JSON tree; :class:`~deconvseg.errors.InputError` names ``source`` and the place."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            text = first["msg"].removeprefix("Value error, ")
            raise InputError(escape_controls(f"{source}: {f'{place}: ' if place else ''}{text}")) from None


def read_results(path: "str | Path") -> TableResult:
    """Read a ``result.json``, or that of a folder which :func:`write_results` wrote.

    Raises :class:`~deconvseg.errors.InputError` for a file that is missing or is no result.

    Example:
        >>> from deconvseg.reporting import TableResult, read_results, write_results
        >>> table = TableResult(key="mine/table-1", title="Two networks", columns=(), rows=())
        >>> files = write_results(table, "table")
        >>> read_results("table") == table
        True

    """
    file = Path(path)
    file = file / RESULT_FILE if file.is_dir() else file
    return TableResult.parse(read_json_object(file), str(file))


def result_text(result: TableResult) -> str:
    """Return a result as the text of its JSON file."""
    return dump_json(result.to_json()) + "\n"
