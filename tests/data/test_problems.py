"""What the listing of a dataset showed is told before anything is learned from it."""

from pathlib import Path

import pytest

from deconvseg.data import Case, Dataset, Problem, open_dataset, report_problems
from deconvseg.errors import InputError


def dataset_of(problems: tuple[Problem, ...]) -> Dataset:
    cases = tuple(Case(name, (Path(f"{name}.png"),), Path(f"{name}_mask.png")) for name in ("a", "b"))
    return Dataset(Path("data"), "folders", cases, ("grey",), problems=problems)


def test_the_first_are_told_and_the_others_counted() -> None:
    problems = tuple(Problem(f"m{number}.png", "is a mask without an image", "warning") for number in range(30))
    told = report_problems(dataset_of(problems), ("a", "b"))
    assert told[:3] == [f"m{number}.png is a mask without an image" for number in range(3)]
    assert told[3:] == ["27 more problems of such files, 30 in all; 'deconvseg data check' names each"]
    assert len(report_problems(dataset_of(problems[:3]), ("a", "b"))) == 3
    assert report_problems(dataset_of(()), ("a", "b")) == []


def test_an_error_of_a_case_to_be_used_is_refused() -> None:
    broken = dataset_of((Problem("b_0003.png", "is channel 3, but the dataset has 1 channels", "error", "b"),))
    with pytest.raises(InputError, match=r"^b_0003\.png is channel 3, .*; mend it, or leave b out of the splits"):
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
