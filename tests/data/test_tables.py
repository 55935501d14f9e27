"""A column of a table, by case."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import open_dataset, read_column, write_table
from deconvseg.data.tables import guard_cell, unguard_cell
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


def test_a_bids_case_has_what_its_subject_has(tmp_path):
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\nsub-01\t30\nsub-02\t40\nsub-02_ses-2\t41\n")
    names = ["sub-01_ses-1", "sub-01_ses-2_run-1", "sub-02", "sub-02_ses-2"]
    assert read_column(table, "age", names) == dict(zip(names, (30.0, 30.0, 40.0, 41.0), strict=True))
    with pytest.raises(InputError, match="has no age for sub-03_ses-1"):
        read_column(table, "age", [*names, "sub-03_ses-1"])


@pytest.mark.parametrize("header", ["image_0,image_1", "image_T1,image_T2"])
def test_a_csv_dataset_names_its_cases_as_it_is_opened(tmp_path, header):
    rows = "".join(f"{name}_0000.nii.gz,{name}_0001.nii.gz,{name}.nii.gz,{site}\n" for name, site in ("ax", "by"))
    (tmp_path / "data.csv").write_text(f"{header},label,site\n{rows}")
    dataset = open_dataset(tmp_path / "data.csv")
    found = read_column(tmp_path / "data.csv", "site", dataset.names, lists_dataset=True)
    assert found == {"a": "x", "b": "y"}
    with pytest.raises(InputError, match=f"has no column 'age'; it has {header.replace(',', ', ')}, label, site"):
        read_column(tmp_path / "data.csv", "age", dataset.names, lists_dataset=True)


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
    with pytest.raises(InputError, match="does not exist"):
        read_column(tmp_path / "none.csv", "age", ["a"])


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6), max_size=8))
def test_no_text_begins_a_formula_and_every_text_comes_back(texts):
    for text in (*texts, "=1+1", "+cmd|'/c calc'!A1", "-2", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-1", "＝1"):
        cell = guard_cell(text)
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert unguard_cell(cell) == text


def test_cells_of_a_table_are_safe_and_numbers_stay_numbers(tmp_path):
    rows = [{"case": "=HYPERLINK(1)", "x": -1.5, "site": "+oslo"}, {"case": "-7", "x": -2, "site": "'=rome"}]
    write_table(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as stream:
        cells = [list(line.values()) for line in csv.DictReader(stream)]
    assert cells == [["'=HYPERLINK(1)", "-1.5", "'+oslo"], ["'-7", "-2", "''=rome"]]
    names = ["=HYPERLINK(1)", "-7"]
    assert read_column(tmp_path / "table.csv", "x", names) == {"=HYPERLINK(1)": -1.5, "-7": -2.0}
    assert read_column(tmp_path / "table.csv", "site", names) == {"=HYPERLINK(1)": "+oslo", "-7": "'=rome"}
