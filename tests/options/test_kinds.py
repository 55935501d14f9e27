"""What is read from a command line is what Python is given, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.cli.options import join_sizes
from deconvseg.errors import InputError, nearest_names, suggest
from deconvseg.options import PATCH, STRATEGIES, Option, RunOptions, declared_options
from deconvseg.options.kinds import PRECISIONS, UPSAMPLING
from deconvseg.training.fit import _PRECISIONS

SIZES = st.lists(st.integers(1, 4096), min_size=1, max_size=3)


@given(SIZES, st.sampled_from(["x", " x ", ",", ", ", " ", "×", "X"]), st.sampled_from(["{}", "[{}]", "({})", " {} "]))
def test_a_patch_is_read_however_it_is_written(sizes: list[int], between: str, around: str) -> None:
    option, text = Option("", PATCH), around.format(between.join(map(str, sizes)))
    wanted = sizes[0] if len(sizes) == 1 else sizes
    assert option.read(text, "--patch-size") == option.accept(wanted, "patch_size") == wanted
    assert option.accept(tuple(sizes) if len(sizes) > 1 else sizes[0], "patch_size") == wanted


@given(SIZES)
def test_numbers_after_the_option_are_one_value(sizes: list[int]) -> None:
    words = list(map(str, sizes))
    told = ["train", "DATASET", "--patch-size", *words, "-o", "RUN", "--epochs", "3"]
    assert join_sizes(told) == ["train", "DATASET", "--patch-size", "x".join(words), "-o", "RUN", "--epochs", "3"]
    assert join_sizes(["train", "3", "4", "-o", "5"]) == ["train", "3", "4", "-o", "5"]


@pytest.mark.parametrize("text", ["", "x", "0", "-8", "8x0", "8x8x8x8", "8.5", "large", "8x", "1e3"])
def test_what_is_no_patch_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        InputError, match="^--patch-size .*: give a whole number, or one for each axis, such as 96x96x64$"
    ):
        Option("", PATCH).read(text, "--patch-size")


@pytest.mark.parametrize("value", [True, 0, 8.5, "8", [8], [8, 0], [8] * 4, [8, True], None, {}])
def test_what_is_no_patch_in_python_is_refused_too(value: object) -> None:
    with pytest.raises(InputError, match=r"give a whole number, or one for each axis, such as \(96, 96, 64\)$"):
        Option("", PATCH).accept(value, "patch_size")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dtc", "dtc"),
        ("dtc+transposed", "dtc+transposed"),
        ('{"kind": "dtc"}', "dtc"),
        ('{"kind": "dtc", "receptive_field": 2}', {"kind": "dtc", "receptive_field": 2}),
    ],
)
def test_an_upsampling_is_a_name_or_json(text: str, value: object) -> None:
    option = Option("", UPSAMPLING)
    assert option.read(text, "--upsampling") == option.accept(value, "upsampling") == value


@pytest.mark.parametrize("text", ['{"kind": ', "{1: 2}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="^--upsampling .*: give a name, or JSON with a kind and its options$"):
        Option("", UPSAMPLING).read(text, "--upsampling")


def test_the_names_that_are_declared_are_those_that_are_there() -> None:
    assert ("auto", *_PRECISIONS) == PRECISIONS
    assert STRATEGIES == ("ddp", "fsdp")
    named = {name: option.kind.names for name, option, _ in declared_options(RunOptions) if option.kind.names}
    assert named.keys() == {"model", "preset", "recipe", "precision", "strategy", "weights"}
    for name, option, default in declared_options(RunOptions):
        if names := named.get(name):
            assert default is None or default in names()
            option.find(next(iter(names())), name)


@given(st.lists(st.text("abcdef+_", min_size=3, max_size=12), min_size=1, unique=True))
def test_a_name_is_its_own_nearest_in_any_case(names: list[str]) -> None:
    for name in names:
        assert nearest_names(name.upper(), names)[0] == name
        assert suggest(name, names).startswith(f"did you mean {name!r}")


def test_an_argument_that_there_is_not_is_told_with_the_nearest() -> None:
    from deconvseg.training import train

    with pytest.raises(TypeError, match=r"unexpected keyword argument 'batchsize': did you mean 'batch_size'"):
        train("data", "run", batchsize=3)
