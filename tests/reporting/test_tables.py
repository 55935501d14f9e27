"""Tables leave out the columns that say nothing."""

from deconvseg.reporting.tables import Cell, Column, Row, Table


def test_a_column_that_is_empty_in_all_rows_is_left_out():
    columns = tuple(Column(head) for head in ("Class", "Dice", "with truth", "missed"))
    rows = (
        Row((Cell("a"), Cell("0.5"), Cell("–"), Cell(""))),
        Row((Cell("b"), Cell("–"), Cell(""), Cell("")), anchor="b"),
    )
    table = Table(columns, rows).without_empty_columns()
    assert [column.head for column in table.columns] == ["Class", "Dice"]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["a", "0.5"], ["b", "–"]]
    assert table.rows[1].anchor == "b"


def test_one_entry_keeps_a_column_and_so_does_the_foot():
    columns = (Column("Class"), Column("Dice"), Column("NSD"))
    rows = (Row((Cell(""), Cell("–", ("0.1 to 0.2",)), Cell(""))),)
    table = Table(columns, rows, Row((Cell("mean"), Cell(""), Cell("1")))).without_empty_columns()
    assert [column.head for column in table.columns] == ["Class", "Dice", "NSD"]
