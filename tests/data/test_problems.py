"""What the listing of a dataset showed is told before anything is learned from it."""

from pathlib import Path

import pytest

from deconvseg.data import Case, Dataset, Problem, open_dataset, report_problems
from deconvseg.errors import InputError


def dataset_of(problems: tuple[Problem, ...]) -> Dataset:
    cases = tuple(Case(name, (Path(f"{name}.png"),), Path(f"{name}_mask.png")) for name in ("a", "b"))
    return Dataset(Path("data"), "folders", cases, ("grey",), problems=problems)


def test_each_kind_is_a_line_that_counts_the_others() -> None:
    problems = tuple(Problem(f"m{number}.png", "is a mask without an image", "warning") for number in range(30))
    problems += (Problem("images", "holds 2 files ending in .webp (a.webp, b.webp)", "error"),)
    assert report_problems(dataset_of(problems), ("a", "b")) == [
        "m0.png is a mask without an image (29 more files: m1.png, m2.png and 27 more)",
        "images holds 2 files ending in .webp (a.webp, b.webp)",
    ]
    kinds = tuple(Problem(f"m{number}.png", f"has the fault {number}", "warning") for number in range(30))
    told = report_problems(dataset_of(kinds), ("a", "b"), limit=3)
    assert told[:3] == [f"m{number}.png has the fault {number}" for number in range(3)]
    assert told[3:] == ["27 more kinds of problems; 'deconvseg data check' names each file"]
    assert report_problems(dataset_of(()), ("a", "b")) == []


def test_an_error_of_a_case_to_be_used_is_refused() -> None:
    broken = dataset_of((Problem("b_0003.png", "is channel 3, but the dataset has 1 channels", "error", "b"),))
    with pytest.raises(InputError, match=r"^b_0003\.png is channel 3, .*; fix it, or exclude b \(`exclude`\)"):
        report_problems(broken, ("a", "b"))
    assert report_problems(broken, ("a",)) == ["b_0003.png is channel 3, but the dataset has 1 channels"]


def test_a_channel_too_many_is_the_problem_of_its_case_and_a_missing_mask_too(balls: Path, tmp_path: Path) -> None:
    for file in balls.rglob("*.*"):
        (tmp_path / file.relative_to(balls)).parent.mkdir(exist_ok=True)
        (tmp_path / file.relative_to(balls)).write_bytes(file.read_bytes())
    (tmp_path / "imagesTr" / "ball2_0002.nii.gz").write_bytes(b"")
    (tmp_path / "labelsTr" / "ball4.nii.gz").unlink()
    dataset = open_dataset(tmp_path)
    assert {problem.case for problem in dataset.problems} == {"ball2", "ball4"}
    with pytest.raises(InputError, match="ball2_0002.nii.gz is channel 2"):
        report_problems(dataset, dataset.labelled_names)
    assert len(report_problems(dataset, ("ball0",))) == 2
