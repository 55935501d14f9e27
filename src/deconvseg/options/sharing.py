"""The options of sharing a run: as one file, and as a repository on the hub."""

from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Annotated, Literal

from deconvseg.options.declaring import FLAG, PLACE, TEXT, Option, Options, name_of
from deconvseg.options.kinds import CONSOLE
from deconvseg.progress import SILENT, Console

_Path = str | PathLike[str]


@dataclass(frozen=True)
class SharingOptions(Options):
    """The options of every way to share a run."""

    run: Annotated[_Path, Option("A finished run or cross-validation.", PLACE, positional=True)]
    _: KW_ONLY
    stored: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Option(
            "Type of the weights in the file: float32, or bfloat16 or float16 for half the size, which changes the "
            "masks a little.",
            name_of(lambda: ("float32", "bfloat16", "float16")),
        ),
    ] = "float32"


@dataclass(frozen=True)
class PackOptions(SharingOptions):
    """The options of ``deconvseg pack``."""

    output: Annotated[_Path, Option("File to write, NAME.dseg.zip.", PLACE, ("o", "output"))]


@dataclass(frozen=True)
class PushOptions(SharingOptions):
    """The options of ``deconvseg hub push``."""

    repository: Annotated[str, Option("Repository on the hub, ORG/NAME.", TEXT, positional=True)]
    _: KW_ONLY
    license: Annotated[
        str | None,
        Option(
            "Licence of the weights by the hub's name, such as cc-by-4.0 or other; that of the data may restrict it.",
            TEXT._replace(metavar="NAME"),
        ),
    ] = None
    revision: Annotated[str | None, Option("Branch to write to; by default main.", TEXT._replace(metavar="BRANCH"))] = (
        None
    )
    private: Annotated[bool, Option("Make a new repository private.", FLAG)] = False
    replace_card: Annotated[bool, Option("Replace the model card, README.md, of the repository.", FLAG)] = False
    dry_run: Annotated[_Path | None, Option("Write the files to this new folder instead, and send nothing.", PLACE)] = (
        None
    )
    console: Annotated[Console | bool | None, CONSOLE] = SILENT
