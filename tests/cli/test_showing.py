"""What the command line shows of scores, and of names that it did not choose."""

import json
import logging
import shlex
import sys

import numpy as np
import pytest

from deconvseg.cli import main
from deconvseg.cli.console import Terminal, error, group_alike, print_json, print_table, show_log, warn
from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.progress import Lines

EVIL = "c[red]\x1b[31m\u202e\u200b\n:smile:"
SHOWN = r"c[red]\x1b[31m\u202e\u200b\n:smile:"


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    """Write pairs of masks by name, and run ``deconvseg evaluate`` on them."""

    def run(truths, predictions, *arguments, truth=None):
        for side, masks in (("truth", truths), ("found", predictions)):
            for name, pixels in masks.items():
                file = tmp_path / side / f"{name}.png"
                write_label_map(LabelMap(np.asarray(pixels, np.uint8), Geometry.identity(2)), file)
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "deconvseg",
                "evaluate",
                "-g",
                str(truth or tmp_path / "truth"),
                "-p",
                str(tmp_path / "found"),
                *arguments,
            ],
        )
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def square(value=1, stop=8):
    pixels = np.zeros((20, 24), np.uint8)
    pixels[4:stop, 4:stop] = value
    return pixels


def test_the_table_of_a_blank_model(evaluate):
    truths = {f"c{i:02d}": square(int(i >= 15)) for i in range(28)}
    code, out, err = evaluate(truths, dict.fromkeys(truths, square(0)))
    assert code == 0
    for row in ("label 1", "mean"):
        (line,) = (line for line in out.splitlines() if line.startswith(f"{row}  "))
        assert "0.5357" in line
        assert "0.0000" in line
        assert "13 of 13" in line
        assert "0 of 15" in line
    assert "mean Dice 0.536 over 28 cases; 0.000 over the 13 with a structure in the true mask, 13 of 13" in out
    assert "warning: every prediction is empty" in err


def test_the_same_error_of_several_cases_is_one_line(evaluate):
    truths = {name: square() for name in "abcdef"}
    code, _, err = evaluate(truths, {"a": square(stop=7)})
    assert code == 1
    assert "error: 5 cases: no prediction has this name (b, c, d and 2 more)" in err
    assert len([line for line in err.splitlines() if "error" in line]) == 1
    found = ["x/a.nii: is 3D", "b: broken", "a file without a name", "x/c.nii: is 3D"]
    assert group_alike(found) == ["2 cases: is 3D (a.nii, c.nii)", "b: broken", "a file without a name"]


def test_predictions_without_a_truth_give_exit_code_1(evaluate):
    code, _, err = evaluate({"a": square()}, {"a": square(stop=7), "b": square()})
    assert code == 1
    assert "predictions without a truth were left out: b" in err


def test_a_truth_without_a_prediction_gives_exit_code_1(evaluate):
    code, out, err = evaluate({"a": square(), "b": square()}, {"a": square(stop=7)})
    assert code == 1
    assert "b: no prediction has this name" in err
    remedy = "predict the others too, or choose cases with --split or --exclude"
    assert f"1 of 2 cases; 1 not predicted, NOT in these means ({remedy}); brackets" in out


@pytest.mark.parametrize(("absent", "said"), [(116, "116 classes are"), (1, "1 class is")])
def test_absent_classes_are_counted_below_the_table(tmp_path, evaluate, absent, said):
    labels = {"background": 0, **{f"organ {value}": value for value in range(1, absent + 2)}}
    for name in ("a", "b"):
        for file in (tmp_path / "imagesTr" / f"{name}_0000.png", tmp_path / "labelsTr" / f"{name}.png"):
            write_label_map(LabelMap(square(), Geometry.identity(2)), file)
    record = {"channel_names": {"0": "grey"}, "labels": labels, "file_ending": ".png", "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    code, out, _ = evaluate({}, {"a": square(0), "b": square(0)}, truth=tmp_path)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()[1:3]] == ["organ 1", "mean"]
    assert f"\n{said} in no true and no predicted mask (both empty in all 2 cases) and not in the mean" in out
    assert f"mean Dice 0.000 over 2 cases and 1 of {absent + 1} classes" in out


def test_names_are_shown_and_never_obeyed(evaluate):
    name = EVIL.replace("\n", "")
    code, out, err = evaluate({name: square()}, {name: square(stop=7), f"{name}2": square()})
    assert code == 1
    assert not set(out + err) & {"\x1b", "\u202e", "\u200b"}
    assert SHOWN.replace(r"\n", "") in err
    code, out, _ = evaluate({}, {}, "--json")
    assert json.loads(out)["cases"][0]["name"] == name
    assert not set(out) & {"\x1b", "\u202e", "\u200b"}


def test_every_way_to_print_escapes(capsys):
    show_log()
    with Lines(error, latest=0.0, stamped=False).track("work") as progress:
        progress(0.5, EVIL)
    for say in (error, warn, Terminal().say, logging.getLogger("deconvseg").warning):
        say(EVIL)
    print_table(EVIL, ["name"], [[EVIL]])
    print_json({EVIL: EVIL})
    out, err = capsys.readouterr()
    assert not set(out + err) & {"\x1b", "\u202e", "\u200b"}
    assert err.count(SHOWN) == 5
    assert out.count("[red]") == 4
    assert err.count("\n") == 5


def test_the_command_for_a_plain_folder_is_one_line_to_copy(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    folder = tmp_path / "my moles"
    for name in ("mole_1", "mole_1_mask", "mole_2", "mole_2_mask"):
        write_label_map(LabelMap(np.ones((8, 8), np.uint8), Geometry.identity(2)), folder / f"{name}.png")
    monkeypatch.setattr(sys, "argv", ["deconvseg", "data", "check", str(folder)])
    with pytest.raises(SystemExit):
        main()
    (command,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("deconvseg "))
    assert command == f"deconvseg data check '{folder}' --image '*.png' --mask '*_mask.png'"
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "label 1   (no name; give --labels 1=NAME): 100 % of the voxels" in capsys.readouterr().out
