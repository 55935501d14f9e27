"""Cases that ``group_by`` takes for one subject are in one split of a training and of a cross-validation."""

import json
import shutil
from pathlib import Path

import pytest

from deconvseg.cli.app import app
from deconvseg.data import find_leaks, open_dataset
from deconvseg.data.splits.reading import Splits
from deconvseg.errors import InputError
from deconvseg.experiments import crossval
from deconvseg.runs import Run
from deconvseg.training import TrainOptions, resume_options, train, write_places
from plans import tiny_plan

EYES = "^s([0-9]+)_"
PLAN = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "learning_rate": 0.003})


@pytest.fixture
def eyes(discs: Path, tmp_path: Path) -> Path:
    """The discs as two scans of each of four subjects, without splits."""
    for folder in ("images", "masks"):
        (tmp_path / "eyes" / folder).mkdir(parents=True)
        for number, path in enumerate(sorted((discs / folder).iterdir())):
            shutil.copy(path, tmp_path / "eyes" / folder / f"s{number // 2}_{'lr'[number % 2]}.png")
    return tmp_path / "eyes"


def test_a_training_keeps_groups_in_one_split_and_goes_on_with_them(eyes: Path, tmp_path: Path) -> None:
    run = train(eyes, tmp_path / "run", plan=PLAN, group_by=EYES, device="cpu", workers=0)
    subjects = [{name.split("_")[0] for name in run.splits[part]} for part in ("train", "val")]
    assert subjects[0].isdisjoint(subjects[1])
    assert len(run.splits["val"]) == 2
    assert run.config["group_by"] == EYES

    options = TrainOptions(str(eyes), group_by=EYES, device="cpu")
    write_places(options, run)
    assert resume_options(TrainOptions(str(eyes), device="cpu"), run).group_by == EYES
    with pytest.raises(InputError, match=r"started with other options: group_by '\^s.*' → 'other'"):
        resume_options(TrainOptions(str(eyes), group_by="other", device="cpu"), run)


def test_a_run_that_knows_no_groups_goes_on(trained: Path, discs: Path, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(trained, tmp_path / "run")))
    config = json.loads((run.path / "config.json").read_text())
    config.pop("group_by")
    (run.path / "config.json").write_text(json.dumps(config))
    assert resume_options(TrainOptions(str(discs), device="cpu"), Run(run.path)).group_by is None


def test_the_folds_of_a_cross_validation_keep_groups(eyes: Path, tmp_path: Path) -> None:
    result = crossval(eyes, tmp_path / "cv", folds=2, plan=PLAN, group_by=EYES, device="cpu", workers=0)
    parts = [Splits(**part) for part in json.loads((tmp_path / "cv" / "splits_final.json").read_text())]
    assert find_leaks(open_dataset(eyes, group_by=EYES), parts) == []
    assert [{name.split("_")[0] for name in part.val} for part in parts] != []
    assert all(len({name.split("_")[0] for name in part.val}) == 2 == len(part.val) // 2 for part in parts)
    assert not result.failed


@pytest.mark.parametrize("arguments", [["data", "check"], ["plan"], ["train", "-o", "run"], ["crossval", "-o", "cv"]])
def test_every_command_names_the_case_that_a_pattern_does_not_match(
    eyes: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="'other' does not match 8 of 8 cases: s0_l, s0_r"):
        app([*arguments, str(eyes), "--group-by", "other"], standalone_mode=False)
