"""Every option is declared once, and is on the command, in the function, in its help and in config.json by that."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, replace
from os import PathLike
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.cli import crossval as cross_validation
from deconvseg.cli import options as command_line
from deconvseg.cli import training
from deconvseg.cli.app import app
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate
from deconvseg.experiments import crossval, predict_many
from deconvseg.experiments.folds import fold_task
from deconvseg.inference import predict
from deconvseg.options import (
    CrossvalOptions,
    EvaluateOptions,
    Option,
    Options,
    PredictOptions,
    RunOptions,
    TrainArguments,
    TrainOptions,
    declared_options,
    takes,
    whole,
)
from deconvseg.options import training as declarations
from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.training import resume_options, train
from plans import tiny_plan

COMMANDS: list[tuple[str, type[Options], Callable[..., object]]] = [
    ("train", TrainArguments, train),
    ("crossval", CrossvalOptions, crossval),
    ("evaluate", EvaluateOptions, evaluate),
    ("predict", PredictOptions, predict),
    ("predict", PredictOptions, predict_many),
]


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what ``--help`` prints, without the frame around it."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    with pytest.raises(SystemExit):
        app([command, "--help"])
    return " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("command, options, function", COMMANDS)
def test_help_lists_every_option_with_its_names_and_its_sentence(
    command: str,
    options: type[Options],
    function: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = help_of(command, monkeypatch, capsys)
    told = " ".join(str(function.__doc__).split())
    parameters = inspect.signature(function).parameters
    for name, option, default in declared_options(options):
        assert parameters[name].default is (inspect.Parameter.empty if default is MISSING else default)
        assert f"{name}: {' '.join(option.help.replace('{form}', option.kind.form).split())}" in told
        if not option.kind.python_only:
            assert " ".join(option.help.replace("{form}", option.kind.text_form).split()) in printed
            names = [part for name in option.names for part in name.split("/")]
            assert all(f"-{part} " in printed or f"-{part}," in printed for part in names)
    assert "{form}" not in printed + told


@pytest.mark.parametrize("command, options, function", COMMANDS)
def test_signatures_have_resolved_types_and_nothing_else(
    command: str, options: type[Options], function: Callable[..., object]
) -> None:
    signature = inspect.signature(function)
    positional = [name for name, part in signature.parameters.items() if part.kind == part.POSITIONAL_OR_KEYWORD]
    taken = {"evaluate": ["truth", "prediction"], "predict": ["images", "models"]}.get(command, ["dataset"])
    assert positional == [*taken, "output"]
    if taken == ["dataset"]:
        assert signature.parameters["plan"].annotation == Plan | str | PathLike[str] | None
    assert not [name for name, part in signature.parameters.items() if isinstance(part.annotation, str)]
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'epoch'"):
        function(*positional, epoch=3)
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) missing a required argument: '{positional[1]}'"):
        function("data")


@pytest.fixture
def one_more() -> Iterator[ModuleType]:
    """Read options/training.py with one more field of the options that train and crossval share."""
    source = inspect.getsource(declarations)
    field = (
        '    knocks: Annotated[int | None, Option("How often to knock.", whole(1, 9), names=("k", "knock"))] = None\n'
    )
    anchor = "    seed: Annotated["
    assert source.count(anchor) == 1
    module = ModuleType("one_more")
    sys.modules[module.__name__] = module
    exec(compile(source.replace(anchor, field + anchor), "one_more.py", "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    ("declared", "function", "command"),
    [("TrainArguments", train, training.train), ("CrossvalOptions", crossval, cross_validation.crossval)],
)
def test_a_new_option_is_one_field_in_one_file(
    one_more: ModuleType, declared: str, function: Callable[..., object], command: Callable[..., None]
) -> None:
    """It is on both commands, in both functions and in config.json, named, described, read and checked."""
    options = getattr(one_more, declared)
    called = takes(options)(inspect.unwrap(function))
    parameter = inspect.signature(called).parameters["knocks"]
    assert (parameter.default, parameter.annotation, parameter.kind) == (None, int | None, parameter.KEYWORD_ONLY)
    assert "    knocks: How often to knock.\n" in str(called.__doc__)
    with pytest.raises(InputError, match=r"^`knocks=10`: give a whole number, 1 to 9$"):
        called("data", "run", knocks=10)
    typed = typer.Typer()
    typed.command()(command_line.takes(options)(inspect.unwrap(command)))
    (option,) = [option for option in typer.main.get_command(typed).params if option.name == "knocks"]
    assert (option.opts, option.help) == (["-k", "--knock"], "How often to knock.")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"^--knock 10: give a whole number, 1 to 9$"):
        typed(["data", "-o", "run", "-k", "10"])
    assert options("data", "run", knocks=3).to_config()["knocks"] == 3
    assert one_more.TrainOptions.of(options("data", "run", knocks=3)).to_config()["knocks"] == 3


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("epochs", 0, "`epochs=0`: give a whole number, 1 or more"),
        ("epochs", "3", "`epochs='3'`: give a whole number, 1 or more"),
        ("epochs", True, "`epochs=True`: give a whole number, 1 or more"),
        ("dims", 4, "`dims=4`: give 2 or 3"),
        ("seed", None, "`seed=None`: give a whole number, 0 or more"),
        ("fold", "first", "`fold='first'`: give a number from 0, or 'all'"),
        ("fold", -1, "`fold=-1`: give a number from 0, or 'all'"),
        ("max_seconds", 0.0, r"`max_seconds=0\.0`: give a number of seconds above 0"),
        ("max_seconds", "90s", "`max_seconds='90s'`: give a number of seconds above 0"),
        ("max_seconds", float("nan"), "`max_seconds=nan`: give a number of seconds above 0"),
        ("memory", "8G", "`memory='8G'`: give a whole number, 1 or more"),
        ("foreground", 1, "`foreground=1`: give True or False"),
        ("model", 3, "`model=3`: give a text"),
        ("cache", 3, "`cache=3`: give a path"),
        ("plan", 3, "`plan=3`: give a plan or its file"),
        ("values", ["a"], r"`values=\['a'\]`: give a mapping"),
    ],
)
def test_a_wrong_value_is_one_error_that_names_the_argument(name: str, value: object, wanted: str) -> None:
    for make in (lambda: TrainOptions("data", **{name: value}), lambda: train("data", "run", **{name: value})):
        with pytest.raises(InputError, match=f"^{wanted}"):
            make()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--epochs", "0"], "--epochs 0: give a whole number, 1 or more"),
        (["--epochs", "many"], "--epochs many: give a whole number, 1 or more"),
        (["--dims", "4"], "--dims 4: give 2 or 3"),
        (["--seed", "-1"], "--seed -1: give a whole number, 0 or more"),
        (["--fold", "first"], "--fold first: give a number from 0, or all"),
        (["--fold", "-1"], "--fold -1: give a number from 0, or all"),
        (["--max-time", "soon"], "--max-time soon: give a number and s, m or h, such as 90s, 15m or 1.5h"),
        (["--time", "0s"], "--time 0s: give a number and s, m or h, such as 90s, 15m or 1.5h"),
        (["--memory", "much"], "--memory much: give a number and K, M, G or T, such as 800M or 8G"),
        (["--set", "batch_size"], "--set batch_size: give KEY=VALUE, such as batch_size=2"),
    ],
)
def test_a_wrong_text_is_one_error_that_names_the_flag(arguments: list[str], wanted: str) -> None:
    with pytest.raises(InputError) as error:
        app(["train", "data", "-o", "run", *arguments])
    assert str(error.value) == wanted


@given(st.integers(), st.integers(0, 9), st.integers(0, 9))
def test_whole_numbers_are_taken_exactly_within_their_bounds(value: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    option = Option("", whole(low, high))
    for taken, read in ((value, str(value)), (np.int64(min(max(value, -9), 9)), str(min(max(value, -9), 9)))):
        if low <= taken <= high:
            assert option.accept(taken, "n") == option.read(read, "--n") == taken
        else:
            with pytest.raises(InputError, match="`n=.*`: give a whole number"):
                option.accept(taken, "n")
            with pytest.raises(InputError, match="--n .*: give a whole number"):
                option.read(read, "--n")


def test_what_is_kept_is_plain_and_is_read_again(tmp_path: Path) -> None:
    options = TrainOptions(tmp_path / "data", plan=tiny_plan(), cache=tmp_path / "c", values={"a": (1,)}, fold="all")
    kept = options.to_json()
    assert kept.keys() == asdict(replace(options, plan=None)).keys()
    assert (kept["dataset"], kept["plan"], kept["cache"]) == (str(tmp_path / "data"), None, str(tmp_path / "c"))
    assert TrainOptions(**kept) == replace(options, plan=None)
    assert (options.to_config()["dataset"], options.to_config()["cache"]) == ("data", "c")
    assert not {"output", "resume", "console", "jobs"} & TrainArguments("data", "run").to_config().keys()
    assert not {"output", "resume", "console", "jobs"} & CrossvalOptions("data", "run").to_config().keys()


def test_whole_paths_keep_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert TrainOptions.of(CrossvalOptions("link", "run", splits="s.json", seed=3)) == TrainOptions(
        str(tmp_path / "link"), splits=str(tmp_path / "s.json"), seed=3
    )


def test_the_declarations_import_nothing_heavy() -> None:
    code = (
        "import sys, deconvseg.options\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'typer', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_fold_is_asked_for_all_that_no_plan_decides(tmp_path: Path) -> None:
    run = Run(tmp_path)
    asked = CrossvalOptions(
        "data", "run", seed=3, max_seconds=60, pretrained="other", workers=0, model="unet", epochs=2
    )
    arguments = fold_task(run, 1, TrainOptions.of(asked)).arguments
    entries = declared_options(RunOptions)
    decided = {name for name, option, _ in entries if option.plans} | {"values", "epochs", "precision", "weights"}
    assert arguments.keys() == {name for name, _, _ in entries} - decided | {"output", "fold"}
    assert (arguments["seed"], arguments["max_seconds"], arguments["workers"]) == (3, 60, 0)
    assert (arguments["plan"], arguments["splits"]) == (
        str(tmp_path / "plan.json"),
        str(tmp_path / "splits_final.json"),
    )
    assert (arguments["output"], arguments["fold"]) == (str(tmp_path / "fold_1"), 1)
    json.dumps(dict(arguments))


OF_THE_LAST_VERSION = {
    "dataset": "discs", "model": "deconver", "preset": None, "variant": None, "plan": "plan.json", "recipe": "default",
    "splits": "splits.json", "fold": 0, "foreground": False, "epochs": 2, "max_seconds": 60, "memory": None,
    "dims": None, "device": "cpu", "precision": None, "workers": 0, "cache": None, "pretrained": None,
    "values": {"batch_size": 2}, "seed": 3, "devices": None, "nodes": None, "strategy": None,
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"stratify": None, "table": None, "folds": 5}])
def test_runs_of_the_last_version_go_on(tmp_path: Path, more: dict[str, object]) -> None:
    """Their config.json is read, and has the keys that are written now; of a cross-validation it had two more."""
    run = Run.create(
        tmp_path / "run", tiny_plan(), {**OF_THE_LAST_VERSION, **more}, {"train": [], "val": [], "test": []}
    )
    asked = TrainOptions(tmp_path / "elsewhere" / "discs", seed=3, workers=2)
    options = resume_options(asked, run)
    assert (options.dataset, options.workers) == (str(tmp_path / "elsewhere" / "discs"), 2)
    same = replace(options, dataset="discs", workers=0)
    assert same.to_json().items() >= OF_THE_LAST_VERSION.items()
    now = CrossvalOptions("data", "run") if more else TrainArguments("data", "run")
    assert now.to_config().keys() >= (OF_THE_LAST_VERSION.keys() | more.keys()) - ({"fold", "nodes"} if more else set())
    with pytest.raises(InputError, match="seed 3 → 4; omit these"):
        resume_options(TrainOptions("discs", seed=4), run)


@pytest.mark.parametrize("command, options, function", COMMANDS[:3])
def test_what_must_be_given_stands_in_the_first_line_of_help_and_help_itself_last(
    command: str,
    options: type[Options],
    function: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = help_of(command, monkeypatch, capsys)
    usage = printed.partition("[OPTIONS]")[0]
    for name, option, default in declared_options(options):
        short = f"-{(option.names or (name,))[0]} "
        assert (name.upper() if option.positional else short) in usage or default is not MISSING
    assert re.findall(r"--(\w[\w-]*)", printed)[-1] == "help"


@pytest.mark.parametrize("function", [predict, predict_many])
def test_what_a_function_adds_is_declared_too_where_annotations_are_postponed(function: Callable[..., object]) -> None:
    listed = re.findall(r"^    (\w+): ", str(function.__doc__).partition("Arguments:\n")[2], re.MULTILINE)
    assert listed == list(inspect.signature(function).parameters)
    with pytest.raises(InputError, match=r"^`output=3`: give a path$"):
        function("scans", "run", 3)


@pytest.mark.parametrize("function", [predict, predict_many])
@pytest.mark.parametrize("models", [[], 3, None])
def test_no_model_is_refused(function: Callable[..., object], models: object) -> None:
    with pytest.raises(InputError, match=r"^`models=.*`: give a run, or a list of one or more$"):
        function("scans", models, "masks")


def test_texts_that_are_given_several_times_are_read_at_once_and_files_of_them_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("value,name\n1,organ\n")
    (tmp_path / "cases.txt").write_text("# blurred\na=blurred\nb\n")
    asked = RunOptions(
        "data",
        image={"t1": "*_t1.nii.gz", "flair": "*_flair.nii.gz"},
        mask="*_mask.png",
        labels=[tmp_path / "labels.csv", "2=lesion:#F00"],
        exclude=[str(tmp_path / "cases.txt"), "c"],
    )
    assert asked.reading == {
        "foreground": False,
        "group_by": None,
        "image": ["t1=*_t1.nii.gz", "flair=*_flair.nii.gz"],
        "mask": ["*_mask.png"],
        "labels": ["1=organ", "2=lesion:#ff0000"],
        "exclude": ["a=blurred", "b", "c"],
        "series": None,
    }
    # Read again, as when a run goes on, they are the same.
    assert RunOptions("data", **asked.reading).reading == asked.reading
    for labels, message in ((["1=a", "1=b"], "the value 1 has two names"), ("organ", "organ is neither a label file")):
        with pytest.raises(InputError, match=rf"^`labels`: {message}"):
            RunOptions("data", labels=labels)
    with pytest.raises(InputError, match=r"^`image=\[3\]`: give a text or several$"):
        RunOptions("data", image=[3])  # type: ignore[list-item]
