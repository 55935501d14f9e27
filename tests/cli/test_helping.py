"""What ``--help`` shows at every width."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from deconvseg.cli import main
from deconvseg.cli.app import app
from deconvseg.cli.console import choose_level
from deconvseg.cli.examples import EXAMPLES
from deconvseg.cli.helping import describe
from deconvseg.data import Geometry, LabelMap, write_label_map


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or get_command(app)
    yield path, command
    for name, part in getattr(command, "commands", {}).items():
        yield from commands(part, (*path, name))


COMMANDS = [pytest.param(command, path, id=" ".join(path) or "deconvseg") for path, command in commands()]


def context(command: Any, path: tuple[str, ...]) -> Any:
    made = command.context_class(command, info_name="deconvseg")
    for name in path:
        command = command.commands[name] if hasattr(command, "commands") else command
        made = command.context_class(command, info_name=name, parent=made)
    return made


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("command, path", COMMANDS)
def test_help_breaks_no_word_and_shows_examples_whole(
    command: Any, path: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    asked = context(get_command(app), path)
    text = command.get_help(asked)
    lines = text.splitlines()
    examples = EXAMPLES.get(" ".join(path)) or EXAMPLES[path[-1] if path else "deconvseg"]
    assert [line.strip() for line in lines if line.strip() in examples] == list(examples)
    # Nothing but an example is wider than the terminal.
    assert all(len(line) <= max(width, 78 if line.strip() in examples else 0) for line in lines)
    shown = text.split()
    for part in command.params:
        assert all(name in text for name in part.opts if name.startswith("-"))
        assert all(word in shown for word in (getattr(part, "help", None) or "").rstrip(".").split()[:-1])
        if part.param_type_name == "option" and part.default not in (None, False, True):
            assert f"default: {part.default}" in " ".join(shown)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_one_that_its_command_takes(name: str, tmp_path: Any) -> None:
    assert all(len(line) <= 76 for line in EXAMPLES[name])
    for line in EXAMPLES[name]:
        program, verb, *arguments = shlex.split(line)
        command = get_command(app).commands[verb]  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        assert program == "deconvseg"
        command.make_context(verb, arguments)


def test_many_options_are_in_groups() -> None:
    command = get_command(app).commands["train"]  # type: ignore[attr-defined]
    titles = [title for title, _ in describe(command, context(get_command(app), ("train",))) if title]
    wanted = ["Examples", "Arguments", "Data", "Plan", "Training", "Machine", "Output"]
    assert [title for title in titles if title in wanted] == wanted
    assert titles[-1] == "Of every command"


@pytest.mark.parametrize("arguments", [["--quiet", "evaluate"], ["evaluate", "--quiet"]])
def test_quiet_may_stand_anywhere_and_leaves_warnings(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("truth", "found"):
        for name in "ab":
            mask = np.full((8, 8), side == "truth", np.uint8)
            write_label_map(LabelMap(mask, Geometry.identity(2)), tmp_path / side / f"{name}.png")
    asked = ["deconvseg", *arguments, "-g", str(tmp_path / "truth"), "-p", str(tmp_path / "found")]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert not ended.value.code
    assert "2 of 2 cases" in told.out
    assert "warning: every prediction is empty" in told.err
    choose_level("usual")
