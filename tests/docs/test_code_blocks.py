"""The code of the documentation: commands that exist, Python that runs or at least names what there is."""

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from deconvseg.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(
        rf"^( *)```(?:{'|'.join(languages)})(?: [^\n]*)?\n(.*?)^ *```",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every call of ``deconvseg`` in a page."""
    lines = [line for block in blocks(page, "sh", "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    for line in lines:
        for call in re.split(r"\||&&|;|\$\(", re.sub(r"(^|\s)#.*", "", line)):
            if re.match(r"\s*(\w+=\S+ )*deconvseg\s", call):
                words = shlex.split(call.rstrip(") "))
                yield words[words.index("deconvseg") + 1 :]


def refusal(words: list[str]) -> str:
    """What is wrong with the names in a call of the command line, or nothing."""
    command: Any = typer.main.get_command(app)
    options: dict[str, Any] = {}
    waiting = 0
    for word in words:
        if waiting:
            waiting -= 1
        elif isinstance(command, click.Group | typer.core.TyperGroup) and not word.startswith("-"):
            if word not in command.commands:
                return f"there is no command {word!r}"
            command = command.commands[word]
            options = {name: entry for entry in command.params for name in (*entry.opts, *entry.secondary_opts)}
        elif word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
            name, _, value = word.partition("=")
            if name not in {*options, "--help", "-h", "--version", "--debug"}:
                return f"{command.name} has no option {name}"
            waiting = 0 if value or name not in options or options[name].is_flag else options[name].nargs
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        assert not refusal(words), f"{page.name}: deconvseg {shlex.join(words)}: {refusal(words)}"


def test_wrong_names_are_found() -> None:
    assert refusal(["segment", "DATASET"]) == "there is no command 'segment'"
    assert refusal(["train", "DATASET", "-o", "RUN", "--epoch", "3"]) == "train has no option --epoch"
    assert not refusal(["data", "check", "DATASET"])
    assert sum(len(list(commands(page))) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_what_there_is(page: Path) -> None:
    """Imports, attributes of the package and keywords of its functions, in blocks that are not run."""
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        if ">>>" in block:
            continue
        tree = ast.parse(inspect.cleandoc(block) if block.startswith(" ") else block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deconvseg":
                module = importlib.import_module(node.module or "")
                names |= {entry.asname or entry.name: _member(module, entry.name) for entry in node.names}
            elif isinstance(node, ast.Import):
                names |= {
                    entry.name: importlib.import_module(entry.name)
                    for entry in node.names
                    if entry.name.split(".")[0] == "deconvseg"
                }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = _resolve(node.func, names)
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                if called is not None and given:
                    taken = inspect.signature(called).parameters
                    open_ended = any(entry.kind is entry.VAR_KEYWORD for entry in taken.values())
                    assert open_ended or given <= taken.keys(), f"{page.name}: {ast.unparse(node)}"


def _member(module: Any, name: str) -> Any:
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{module.__name__}.{name}")


def _resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """What of the package an expression such as ``deconvseg.train`` stands for; None for other things."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := _resolve(node.value, names)) is not None:
        return _member(owner, node.attr) if inspect.ismodule(owner) else getattr(owner, node.attr)
    return None


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_the_files_of_a_tutorial_run(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    for name, code in re.findall(r'^```python title="([^"]+)"\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
        said = capsys.readouterr().out
        shown = re.search(rf"^```console\n\$ python {re.escape(name)}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert shown is not None, f"{page.name} does not show what {name} prints"
        assert len(said.splitlines()) == len(shown[1].splitlines()), f"{page.name}: python docs/screens.py {page.name}"
