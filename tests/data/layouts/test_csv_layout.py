"""A table is read as programs of several countries and systems write it; what cannot be meant is an error."""

import json
import time
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import open_dataset, read_column, resolve_splits
from deconvseg.data.delimited import read_table
from deconvseg.errors import InputError

NAMES = ("a b", "c's", "d [1] 50%", "Müller", "#e", "f,g", "-h", "=i")


def raster(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 2, (6, 5), dtype=np.uint8)).save(path)


@pytest.fixture
def files(tmp_path):
    for name in NAMES:
        for folder in ("images", "masks"):
            raster(tmp_path / folder / f"{name}.png")
    return tmp_path


def text(delimiter=",", slash="/", newline="\n", heading=("image", "label")):
    rows = [heading, *((f"images{slash}{name}.png", f"masks{slash}{name}.png") for name in NAMES)]
    return newline.join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("slash", ["/", "\\"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_slashes_and_encodings(files, delimiter, slash, encoding):
    for newline in ("\n", "\r\n"):
        (files / "pairs.csv").write_bytes(text(delimiter, slash, newline).encode(encoding))
        dataset = open_dataset(files / "pairs.csv")
        assert dataset.names == NAMES
        assert dataset.problems == ()
        assert all(path.exists() for case in dataset.cases for path in (*case.images, case.label))


def test_headings_in_capitals_and_a_line_that_names_the_delimiter(files):
    (files / "pairs.csv").write_text("sep=;\n" + text(";", heading=("Image", "MASK")))
    assert open_dataset(files / "pairs.csv").names == NAMES


def test_decomposed_letters_are_found(files):
    (files / "pairs.csv").write_text(
        "image,label,split\nimages/Mu\u0308ller.png,masks/Mu\u0308ller.png,train\nimages/a b.png,masks/a b.png,val\n"
    )
    dataset = open_dataset(files / "pairs.csv")
    assert dataset.names == ("Müller", "a b")
    assert all(case.images[0].exists() for case in dataset.cases)
    (files / "splits.json").write_text(json.dumps({"train": ["a b"], "val": ["Mu\u0308ller"]}))
    assert resolve_splits(dataset, files / "splits.json", fold=0).val == ("Müller",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,label\na,b.png,m.png\n", r"line 2: has 3 cells for 2 columns; put a cell that holds the delimiter"),
        ("image,image,label\na,b,c\n", "has the column image twice"),
        ("image,label\n\0a,b\n", "is not a readable CSV file"),
        ('image,label\n"a,b\n' + "x" * 200_000, "is not a readable CSV file"),
    ],
)
def test_what_cannot_be_meant_is_an_error(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(InputError, match=message) as failure:
        open_dataset(tmp_path / "pairs.csv")
    assert "\n" not in str(failure.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_our_own_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_bytes(content)
    with suppress(InputError):
        table = read_table(path)
        assert all(tuple(row) == tuple(dict.fromkeys(table.columns)) for _, row in table.rows)


def test_tables_beside_a_dataset_are_read_alike(tmp_path):
    (tmp_path / "a.csv").write_bytes("case;alter\nx;30\ny;41,5\n".encode("utf-8-sig"))
    assert read_column(tmp_path / "a.csv", "alter", ["x", "y"]) == {"x": "30", "y": "41,5"}


def splits_beside(files, record):
    (files / "pairs.csv").write_text(text())
    (files / "splits.json").write_text(record if isinstance(record, str) else json.dumps(record))
    dataset = open_dataset(files / "pairs.csv")
    (problem,) = dataset.problems
    assert (problem.file, problem.severity) == (str(files / "splits.json"), "warning")
    return dataset, problem.message


def test_splits_beside_a_table_are_used_where_they_name_its_cases_and_that_is_told(files):
    dataset, message = splits_beside(files, {"train": list(NAMES[2:]), "val": list(NAMES[:2])})
    assert message.startswith("is used, because it names cases of pairs.csv")
    assert resolve_splits(dataset, None, fold=0).val == NAMES[:2]
    dataset, message = splits_beside(files, [{"train": list(NAMES[2:]), "val": list(NAMES[:2])}])
    assert message.startswith("is used")


@pytest.mark.parametrize(
    "record", [{"train": ["x"], "val": ["y"]}, {"train": []}, "{", [1], {"train": [NAMES[0], "x"]}]
)
def test_other_splits_beside_a_table_are_not_used_and_that_is_told(files, record):
    dataset, message = splits_beside(files, record)
    assert message.startswith("is not used")
    assert dataset.splits_file is None
    parts = resolve_splits(dataset, None, fold=0)
    assert sorted((*parts.train, *parts.val)) == sorted(NAMES)


def test_an_empty_val_is_an_error_that_says_what_to_do(files):
    (files / "pairs.csv").write_text(text())
    dataset = open_dataset(files / "pairs.csv")
    for record in ({"train": list(NAMES), "val": []}, [{"train": list(NAMES), "val": []}]):
        (files / "s.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match=r's\.json: "val" is empty; name cases to validate on, leave "val" out'):
            resolve_splits(dataset, files / "s.json", fold=0)
        assert resolve_splits(dataset, files / "s.json", fold="all").train == NAMES
    (files / "s.json").write_text(json.dumps({"train": list(NAMES)}))
    assert len(resolve_splits(dataset, files / "s.json", fold=0).val) == 2


def test_many_folders_with_a_case_each_are_listed_quickly(tmp_path):
    rows = ["image,label"]
    for number in range(600):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        for name in ("image.png", "mask.png"):
            (folder / name).touch()
        rows.append(f"case{number}/image.png,case{number}/mask.png")
    rows[0] += ",case"
    rows[1:] = [f"{row},case{number}" for number, row in enumerate(rows[1:])]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    started = time.process_time()
    assert len(open_dataset(tmp_path / "pairs.csv").cases) == 600
    assert time.process_time() - started < 2  # a tenth of a second; eight where every folder compares all files


def test_splits_of_any_depth_beside_a_table_are_not_used(files):
    (files / "pairs.csv").write_text(text())
    (files / "splits.json").write_text("[" * 900 + '"other"' + "]" * 900)
    dataset = open_dataset(files / "pairs.csv")
    assert dataset.splits_file is None
    assert "names other, which pairs.csv does not have" in dataset.problems[0].message
