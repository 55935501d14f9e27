"""A column of a table, by case."""

import pytest

from deconvseg.data import read_column
from deconvseg.errors import InputError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "case,site,age\na,rome,3\nb,oslo,4.5\nc,oslo,9\n"),
        ("t.csv", "age, site, case\n3, rome, a\n4.5, oslo, b\n9, oslo, c\n"),
        ("participants.tsv", "participant_id\tage\tsite\na\t3\trome\nb\t4.5\toslo\nc\t9\toslo\n"),
        ("data.csv", "image,label,site,age\nx/a.nii.gz,l,rome,3\nx/b.nii.gz,l,oslo,4.5\nx/c.png,l,oslo,9\n"),
    ],
)
def test_numbers_are_numbers_and_texts_texts(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_column(tmp_path / name, "age", ["a", "c"]) == {"a": 3.0, "c": 9.0}
    assert read_column(tmp_path / name, "site", ["b", "a"]) == {"b": "oslo", "a": "rome"}


def test_a_number_that_is_missing_makes_them_texts(tmp_path):
    (tmp_path / "t.csv").write_text("case,age\na,3\nb,nan\nc,n/a\n")
    assert read_column(tmp_path / "t.csv", "age", ["a", "b"]) == {"a": "3", "b": "nan"}
    assert read_column(tmp_path / "t.csv", "age", ["a", "c"]) == {"a": "3", "c": "n/a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,site\na,x\n", "has no column 'age'; it has case, site"),
        ("case,age\na,\n", r"has no age for a, b \(cases are read from the column 'case'\)"),
        ("case,age\na,1\na,2\n", "several rows for the case 'a'"),
        ("", "has no column 'age'; it has none"),
    ],
)
def test_what_is_missing_is_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_column(tmp_path / "t.csv", "age", ["a", "b"])


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="No such file or directory; give a .csv or .tsv"):
        read_column(tmp_path / "none.csv", "age", ["a"])
