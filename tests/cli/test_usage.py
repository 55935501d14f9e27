"""Wrong usage is one line with exit code 2, and says what there is instead."""

import sys

import pytest

from deconvseg.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "No such command 'trian': did you mean 'train'? see 'deconvseg --help' for all of them"),
        ("data chek", "No such command 'chek': did you mean 'check'? see 'deconvseg data --help' for all of them"),
        ("plan DATASET --patch-sise 3", "No such option --patch-sise: did you mean '--patch-size'"),
        ("models --jsn", "No such option --jsn: did you mean '--json'? see 'deconvseg models --help'"),
        ("--foo", "No such option --foo: "),
        ("train", "Missing argument 'dataset'; see 'deconvseg train --help'"),
        (
            "predict SCANS -o MASKS",
            "Missing option '-i' / '--input' / '--from'; write -i SCANS; see 'deconvseg predict --help'",
        ),
        (
            "predict -i SCANS -m RUN MASKS",
            "Missing option '-o' / '--output'; write -o MASKS; see 'deconvseg predict --help'",
        ),
        ("train DATA -o RUN --max-time 1x", "--max-time 1x: give a number and s, m or h, such as 90s, 15m or 1.5h"),
        ("train DATA -o RUN --time=1x", "--time 1x: give a number and s, m or h, such as 90s, 15m or 1.5h"),
        ("train DATA -o RUN --dims 5", "--dims 5: give 2 or 3"),
        ("predict -i SCANS", "Missing option '-o' / '--output'; see 'deconvseg predict --help'"),
        ("train a b c -o d", "Got unexpected extra argument(s) (b c); see 'deconvseg train --help'"),
        ("train DATASET -o", "Option '-o' requires an argument; see 'deconvseg train --help'"),
    ],
)
def test_wrong_usage_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["deconvseg", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.err.count("\n") == 1
    assert f"error: {message}" in told.err


@pytest.mark.parametrize("arguments", ["", "data", "--help", "plan --help"])
def test_help_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["deconvseg", *arguments.split()])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr()
    assert "Usage: deconvseg" in told.out + told.err
    assert "error: " not in told.err
