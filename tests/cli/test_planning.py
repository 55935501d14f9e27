import json
import shutil
import sys
from pathlib import Path

import pytest

from deconvseg.cli import main
from deconvseg.planning import Plan
from plans import tiny_plan


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Run ``deconvseg plan`` in this process; return its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["deconvseg", "plan", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    reasons = {"reasons": {"batch_size": "as many as fit [of 8]"}, "chosen": {"batch_size": 2}}
    path.write_text(tiny_plan(warnings=["it is slow"], **reasons).model_dump_json())
    return path


def test_a_plan_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out, _ = run(monkeypatch, capsys, file, "--explain", "--set", "recipe.epochs=7")
    assert code == 0
    assert "as many as fit [of 8]" in out
    assert "7 of 3 steps" in out
    assert "it is slow" in out
    assert "not known" in out


def test_a_value_that_was_set_is_explained_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    _, out, _ = run(monkeypatch, capsys, file, "--explain", "--set", "batch_size=4")
    assert "changed by hand; planned was 2" in " ".join(out.split())


def test_a_plan_is_checked_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    code, out, err = run(monkeypatch, capsys, file)
    assert code == 0
    assert Plan.model_validate_json(out) == Plan.model_validate_json(file.read_text())
    assert "warning: it is slow" in err
    file.write_text(file.read_text().replace('"batch_size":2,', '"batch_size":0,'))
    code, out, err = run(monkeypatch, capsys, file)
    assert (code, out) == (2, "")
    assert "plan.json: batch_size: Input should be greater than or equal to 1" in err


def test_a_plan_whose_patch_does_not_fit_its_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    code, _, err = run(monkeypatch, capsys, file, "--set", "patch_size=[33,32]")
    assert code == 2
    assert "patch_size [33, 32] must be a multiple of [2, 2]" in err


def test_a_plan_that_is_there_takes_no_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    code, _, err = run(monkeypatch, capsys, file, "--memory", "8G", "--time", "1h", "--device", "cpu", "--seed", "0")
    assert code == 2
    assert f"--memory, --time, --device, --seed together with {file}: an existing plan" in err


def test_the_description_of_a_dataset_is_a_dataset_and_its_problems_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], balls: Path, tmp_path: Path
) -> None:
    shutil.copytree(balls, tmp_path / "balls")
    (tmp_path / "balls" / "labelsTr" / "ball1.nii.gz").unlink()
    monkeypatch.setattr("deconvseg.planning.make_plan", lambda *_, **__: tiny_plan())
    code, out, err = run(monkeypatch, capsys, tmp_path / "balls" / "dataset.json", "--device", "cpu")
    assert code == 0
    assert Plan.model_validate_json(out) == tiny_plan()
    assert "ball1_0000.nii.gz has no mask" in " ".join(err.split())


def test_the_schema_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "--schema")
    assert code == 0
    assert json.loads(out)["title"] == "Plan"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a dataset to plan for, or a plan.json to check"),
        (["{discs}", "-o", "{discs}"], "it is a folder; choose another output"),
        (["{discs}", "-o", ""], "it is a folder; choose another output"),
        (["{discs}", "-o", "{discs}/splits.json/plan.json"], "splits.json is a file, not a folder"),
        (["{discs}", "--splits", ""], "--splits '': give a path"),
        (["{discs}", "--memory", "much"], "--memory much: give a number and K, M, G or T"),
    ],
)
def test_wrong_use_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    discs: Path,
    arguments: list[str],
    message: str,
) -> None:
    code, _, err = run(monkeypatch, capsys, *(text.format(discs=discs) for text in arguments))
    assert code == 2
    assert message in err


@pytest.mark.parametrize("command", ["plan", "train", "crossval"])
@pytest.mark.parametrize(
    "options, message",
    [
        (["--model", "deconvr"], "model 'deconvr' is unknown"),
        (["--preset", "glass"], "preset 'glass' is unknown: did you mean 'glas'?"),
        (["--preset", "glas", "--variant", "larger"], "variant 'larger'"),
        (["--variant", "larger"], "give --preset too"),
        (["--recipe", "soup"], "recipe 'soup' is unknown: choose from default, paper"),
    ],
)
def test_names_that_are_unknown_are_refused_before_a_case_is_read(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    discs: Path,
    tmp_path: Path,
    command: str,
    options: list[str],
    message: str,
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a case was read")

    for reader in ("dataset.read_image", "labels.sources.read_mask"):
        monkeypatch.setattr(f"deconvseg.data.{reader}", read)
    output = [] if command == "plan" else ["-o", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["deconvseg", command, str(discs), *output, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert message in captured.err
    assert "planning" not in captured.err
    assert not (tmp_path / "run").exists()
