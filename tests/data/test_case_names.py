"""Names of cases, which become names of files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvseg.data import Case, LabelEncoding, Normalisation, open_dataset, prepare_cases
from deconvseg.errors import InputError


def picture(path: Path, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:5, 2:5] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot be a file name"),
        ("..", "cannot be a file name"),
        ("a/b", "cannot be a file name"),
        ("a\\b", "cannot be a file name"),
        ("a\0b", "cannot be a file name"),
        (".case", "begins with a dot, which hides its mask"),
        ("x" * 250, "has 250 bytes, but a mask's name may have 248"),
        ("é" * 125, "has 250 bytes, but a mask's name may have 248"),
    ],
)
def test_names_that_no_mask_can_have_are_refused_with_the_file(name: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^d/a\.png: .*{message}"):
        Case(name, (Path("d/a.png"),), None)


@pytest.mark.parametrize("name", ["x" * 250, "é" * 124, "a b", "-a", "😀", "x" * 100 + ".1", "a\nb"])
def test_any_name_that_a_file_has_can_be_prepared(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "images" / f"{name}.png")
    picture(tmp_path / "masks" / f"{name}.png")
    data = open_dataset(tmp_path)
    (case,) = prepare_cases(
        data,
        tmp_path / "cache",
        spacing=(1.0, 1.0),
        normalisations=(Normalisation(),),
        encoding=LabelEncoding((0, 255), ("background", "disc")),
    )
    assert case.name == name
    assert case.labels[:].sum() == 9


def test_long_names_that_differ_at_their_end_have_entries_of_their_own(tmp_path: Path) -> None:
    names = ["x" * 245 + end for end in "ab"]
    for name in names:
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png")
    found = prepare_cases(
        open_dataset(tmp_path),
        tmp_path / "cache",
        spacing=(1.0, 1.0),
        normalisations=(Normalisation(),),
        encoding=LabelEncoding((0, 255), ("background", "disc")),
    )
    assert len({case.folder for case in found}) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Case1", "case1"], "its mask and that of 'case1' are one file on Windows and macOS"),
        (["con"], "a name that Windows does not take"),
        (["LPT1.2"], "a name that Windows does not take"),
        (["a:b"], "a name that Windows does not take"),
        (["case "], "a name that Windows does not take"),
        (["case."], "a name that Windows does not take"),
    ],
)
def test_names_that_other_systems_do_not_take_are_told(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png")
    (problem,) = open_dataset(tmp_path).problems
    assert problem.severity == "warning"
    assert message in problem.message
