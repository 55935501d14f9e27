"""The library names arguments, and the command line says them as its flags."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

import deconvseg
from deconvseg.cli import main
from deconvseg.cli.app import app
from deconvseg.cli.flags import name_flags, speak_for
from plans import tiny_plan

PACKAGE = Path(deconvseg.__file__).parent
# Programs of others and commands of their own, whose flags these are.
OTHERS = {
    "data/layouts/left_out.py": "dcm2niix",
    "data/recording.py": "cp -p",
    "integrations/onnx/run_onnx.py": "-o",
    # A card says how to run its model.
    "integrations/sharing/card.py": "deconvseg predict",
    "ops/native/build.py": "",
    "models/segmamba.py": "-p log p",
    "integrations/nnunet/installed.py": "nnUNetv2_",
    "options/nnunet.py": "nnU-Net's -p",
    # The en dash of LaTeX.
    "reporting/results/latex.py": "--",
}


def commands(command: Any) -> Iterator[Any]:
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from commands(part)


FLAGS = {
    flag
    for command in commands(get_command(app))
    for option in command.params
    for flag in (*option.opts, *option.secondary_opts)
    if flag.startswith("-")
}
SPOKEN = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(FLAGS, key=len, reverse=True)))})(?![\w-])|(^|\s)--$")


def flags_named(source: str) -> list[str]:
    """The string literals of a module, docstrings and parts of f-strings too, that name a flag of the command line."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    spoken = [text for text in texts if isinstance(text, str) and SPOKEN.search(text)]
    return [text for text in spoken if "python -m deconvseg" not in text and "``-m``" not in text]


def test_no_text_below_the_command_line_names_a_flag() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("cli/"):
            texts = [text for text in flags_named(path.read_text("utf-8")) if OTHERS.get(name, "\0") not in text]
            found |= {name: texts} if texts else {}
    assert found == {}


@pytest.mark.parametrize(
    "source",
    ["f'go on with --resume, {x}'", 'def f():\n    """See ``--fold``."""', "f'--{x}'", "'another folder with -o'"],
)
def test_the_scan_finds_flags_wherever_they_stand(source: str) -> None:
    assert flags_named(source)


def test_the_scan_leaves_other_text_alone() -> None:
    assert flags_named("x = 'a--fold', 'x -- y', '-1', '--resumed', '`resume=True`'") == []


class Context:
    """The context of a command."""

    def __init__(self, verb: str) -> None:
        self.command = get_command(app)
        self.invoked_subcommand = verb


@pytest.mark.parametrize(
    ("verb", "text", "shown"),
    [
        ("train", "go on with `resume=True`", "go on with --resume"),
        ("train", "`devices=2` beside `dims`", "--devices 2 beside --dims"),
        ("train", "or use all (`fold='all'`)", "or use all (--fold all)"),
        ("train", "`values={'batch_size': 6, 'recipe.epochs': 2}`", "--set batch_size=6 --set recipe.epochs=2"),
        ("train", "`values={'model.config.widths': [8, 16]}`", "--set 'model.config.widths=[8,16]'"),
        ("predict", "`postprocess=False`, `skip_existing=True`", "--no-postprocessing, --continue"),
        ("predict", "`plan='a b.json'`, `max_seconds=9`", "--plan 'a b.json', --time 9"),
        ("data", "the `dataset`, `splits`", "the DATASET, --splits"),
        ("train", "`no_such=1`, `Case`, `x y`", "`no_such=1`, `Case`, `x y`"),
    ],
)
def test_an_argument_is_said_as_its_flag(verb: str, text: str, shown: str) -> None:
    speak_for(Context(verb))  # type: ignore[arg-type]
    assert name_flags(text) == shown


@pytest.fixture
def places(discs: Path, tmp_path: Path) -> dict[str, Path]:
    """Folders that commands are given: images, masks that count objects, and a run that has only its plan."""
    for folder in ("images", "masks"):
        (tmp_path / "instances" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "instances" / "images" / f"{name}.png")
        values = np.arange(100, dtype=np.uint8).reshape(10, 10)
        Image.fromarray(values).save(tmp_path / "instances" / "masks" / f"{name}.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text(tiny_plan().model_dump_json())
    (tmp_path / "other.json").write_text("{}")
    return {"discs": discs, "tmp": tmp_path}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data check {tmp}/instances", "--foreground"),
        ("plan {discs} --dims 3", "--dims 3: the images are 2D"),
        ("train {discs} -o {tmp}/new --variant 1-2", "give --preset too"),
        ("train {discs} -o {tmp}/new --precision 16 -d cpu", "--precision 16: float16 needs"),
        ("crossval {discs} -o {tmp}/new --jobs 2 --devices 2", "--jobs 2 together with --devices 2"),
        ("crossval {discs} -o {tmp}/new --table {tmp}/t.csv", "--table {tmp}/t.csv: give the column by which folds"),
        ("predict -i {discs} -o {tmp}/out -m {tmp}/run -d tpu", "--device tpu: not available"),
        ("evaluate -g {discs} -p {discs}/masks --fold 1", "--fold 1 has several splits: say which one as --split"),
        ("report {tmp}/run --metrics {tmp}/other.json", "write it by evaluate (--output)"),
        ("complexity --model deconver --set in_channels=1", "add --size, such as --size 64x64x64, or --preset"),
    ],
)
def test_errors_of_every_command_name_its_flags(
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["deconvseg", *(part.format(**places) for part in arguments.split())])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == (1 if arguments.startswith("data") else 2), told
    shown = " ".join((told.out + told.err).split())
    assert message.format(**places) in shown
    assert "`" not in shown
