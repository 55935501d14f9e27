"""Tables fit every width without a broken word or a cell that is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.cli.tables import lay_out, lay_out_texts

HEADS = ("class", "Dice", "with truth", "HD95 (mm)", "NSD 1 mm", "missed", "false alarms", "both empty")
ROWS = [
    ("anterior", "0.8881 [0.880, 0.895]", "0.8881", "1.46", "0.987", "0 of 41", "0 of 0", "0"),
    ("mean", "0.8801 [0.871, 0.889]", "0.8801", "1.50", "0.985", "0 of 82", "0 of 0", "0"),
]
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
texts = st.lists(words, max_size=12).map(" ".join)


@pytest.mark.parametrize("width", [60, 80, 100, 200, None])
def test_a_wide_table_is_split_by_columns(width: int | None) -> None:
    lines = lay_out(HEADS, ROWS, width, left=2)
    assert all(len(line) <= (width or 1000) for line in lines)
    shown = "\n".join(lines)
    for row in (HEADS, *ROWS):
        assert all(cell in shown for cell in row)
    # Every part has the classes.
    assert shown.count("anterior") == shown.count("class") == lines.count("") + 1
    assert (len(lines) == 4) == (width is None or width >= 100)


@settings(deadline=None)
@given(st.lists(st.tuples(words, texts, texts), max_size=6), st.integers(40, 200))
def test_texts_in_columns_keep_every_word(rows: list[tuple[str, str, str]], width: int) -> None:
    lines = lay_out_texts(("what", "value", "why"), rows, width)
    assert all(len(line) <= width for line in lines)
    shown = " ".join(lines).split()
    assert all(word in shown for row in rows for cell in row for word in cell.split())


def test_longest_words_without_room_make_paragraphs() -> None:
    rows = [("recipe.augmentation.flip_axes", "[0, 1, 2]", "the mirror images are as near to the others as they are")]
    assert lay_out_texts(("choice", "value", "reason"), rows, 40) == [
        "recipe.augmentation.flip_axes",
        "  [0, 1, 2]",
        "  the mirror images are as near to the",
        "  others as they are",
    ]
