"""The options of a reproduction of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike, fspath
from typing import Annotated, Any, Literal

from deconvseg.errors import InputError
from deconvseg.options.declaring import (
    FLAG,
    PLACE,
    SECONDS,
    SETTINGS,
    SHARE,
    TEXT,
    Kind,
    Option,
    Options,
    whole,
)
from deconvseg.options.kinds import CONSOLE, RECIPE, WEIGHTS
from deconvseg.options.training import DEVICE
from deconvseg.progress import Console

_Path = str | PathLike[str]


def _check_data(value: Any) -> dict[str, str]:
    """Folders by name of the dataset; a folder without a name holds several."""
    if isinstance(value, str | PathLike):
        value = {"": value}
    if not isinstance(value, Mapping):
        value = _gather([_read_data(fspath(text)) for text in value])
    return {str(name): str(PLACE.check(path)) for name, path in value.items()}


def _gather(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("a dataset, or the folder that holds several, is given twice")
    return found


def _read_data(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    return (name, path) if equals and name.isidentifier() and path else ("", PLACE.check(text))


def _check_names(value: Any) -> tuple[str, ...]:
    return tuple(value.split(",")) if isinstance(value, str) else tuple(TEXT.check(name) for name in value)


_DATA = Kind(
    _check_data,
    "a folder, or folders by the names of datasets",
    form=', such as {"isic": "ISIC"}',
    read=_read_data,
    wanted_text="a folder, or NAME=FOLDER",
    text_form=", such as isic=ISIC; repeatable",
    metavar="[NAME=]FOLDER",
    parsed=list[str],
    gather=_gather,
)
_PROTOCOL = Kind(lambda value: TEXT.check(fspath(value)), "a name or a path")
_NAMES = Kind(
    _check_names,
    "names",
    read=_check_names,
    wanted_text="names with commas between them",
    metavar="NAMES",
)


@dataclass(frozen=True)
class ReproduceOptions(Options):
    """The options of ``deconvseg reproduce`` and ``deconvseg compare``."""

    protocol: Annotated[
        _Path,
        Option("A table of the papers, such as dtc/table-1, or the file of a protocol.", _PROTOCOL, positional=True),
    ]
    output: Annotated[
        _Path, Option("Folder of the table: its files, and a folder for each cell.", PLACE, names=("o", "output"))
    ]
    _: KW_ONLY
    data: Annotated[
        _Path | Sequence[_Path] | Mapping[str, _Path] | None,
        Option("Folder that holds the datasets as downloaded, or the folder of one by its name{form}.", _DATA),
    ] = None
    datasets: Annotated[
        str | Sequence[str] | None, Option("Only these datasets of the table, with commas between them.", _NAMES)
    ] = None
    rows: Annotated[
        str | Sequence[str] | None, Option("Only these rows of the table, with commas between their keys.", _NAMES)
    ] = None
    folds: Annotated[int | None, Option("Number of folds; by default the protocol's.", whole(1))] = None
    seeds: Annotated[int | None, Option("Number of seeds; by default the protocol's.", whole(1))] = None
    weights: Annotated[
        Literal["final", "best"] | None,
        Option("Weights that are scored, final or best; by default the protocol's.", WEIGHTS),
    ] = None
    recipe: Annotated[str | None, Option("Recipe; by default that of each paper.", RECIPE)] = None
    scale: Annotated[
        float,
        Option(
            "Below 1 a rehearsal: this share of the steps (10 to 50), an eighth of the widths, small patches, ten "
            "cases, two folds.",
            SHARE,
        ),
    ] = 1.0
    steps: Annotated[int | None, Option("Steps of each training, at most.", whole(1))] = None
    cases: Annotated[
        int | None, Option("Cases that the folds divide, at most; drawn, with half as many test cases.", whole(2))
    ] = None
    narrow: Annotated[int | None, Option("Divide the widths of the networks by this, to at least 8.", whole(1))] = None
    patch_size: Annotated[int | None, Option("Largest length of a patch (and of resized images).", whole(8))] = None
    batch_size: Annotated[int | None, Option("Patches per step; by default the preset's.", whole(1))] = None
    max_seconds: Annotated[
        float | None, Option("Time limit of each training{form}.", SECONDS, names=("time", "max-time"))
    ] = None
    values: Annotated[
        Mapping[str, Any] | None, Option("Change a value of every plan{form}.", SETTINGS, names=("set",))
    ] = None
    incomplete: Annotated[bool, Option("Accept datasets with fewer cases than their publisher states.", FLAG)] = False
    jobs: Annotated[
        int | None, Option("Number of cells to run in parallel; by default 1, or one per GPU.", whole(1))
    ] = None
    device: Annotated[str, DEVICE] = "auto"
    workers: Annotated[
        int | None, Option("Processes that prepare and load the data of each training; 0: only the training.", whole(0))
    ] = None
    cache: Annotated[_Path | None, Option("Keep preprocessed cases in this folder.", PLACE)] = None
    resume: Annotated[bool, Option("Keep the finished cells and continue the others.", FLAG)] = False
    records: Annotated[
        _Path | None,
        Option("Folder with records of finished cells as CSV: cells in it are not trained again, others added.", PLACE),
    ] = None
    command: Annotated[str | None, Option("The command for the result.", TEXT._replace(python_only=True))] = None
    console: Annotated[Console | bool | None, CONSOLE] = None

    @property
    def places(self) -> Mapping[str, str]:
        """The folders of the data by name of the dataset; that under ``""`` holds several."""
        return {} if self.data is None else _check_data(self.data)
