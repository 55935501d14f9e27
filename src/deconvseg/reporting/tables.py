"""Tables of a page: columns, cells, and the removal of empty columns."""

from dataclasses import dataclass, replace

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """A cell: text, smaller lines below it, link to an anchor, colour of a class, and the value to sort by."""

    text: str
    notes: tuple[str, ...] = ()
    link: str = ""
    colour: str = ""
    value: float | None = None

    @property
    def empty(self) -> bool:
        """Whether the cell is empty."""
        return self.text in ("", DASH) and not any(self.notes)


@dataclass(frozen=True)
class Column:
    """The head of a column: title, smaller line below it, colour of a class; ``words`` marks a column of text."""

    head: str
    note: str = ""
    words: bool = False
    colour: str = ""


@dataclass(frozen=True)
class Row:
    """A row; ``anchor`` is its id on the page."""

    cells: tuple[Cell, ...]
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; ``foot`` is a row below them, such as a mean."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    foot: Row | None = None
    sortable: bool = False

    def without_empty_columns(self) -> "Table":
        """Return the table without columns in which every row is empty; the first column always stays."""
        rows = [*self.rows, *([self.foot] if self.foot else [])]
        kept = [
            place for place in range(len(self.columns)) if place == 0 or not all(row.cells[place].empty for row in rows)
        ]

        def cut(row: Row) -> Row:
            return replace(row, cells=tuple(row.cells[place] for place in kept))

        return replace(
            self,
            columns=tuple(self.columns[place] for place in kept),
            rows=tuple(map(cut, self.rows)),
            foot=cut(self.foot) if self.foot else None,
        )
