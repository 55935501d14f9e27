"""The options of imports of models that were trained elsewhere."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Annotated, Any

from deconvseg.options.declaring import PLACE, Kind, Option, Options, name_of
from deconvseg.options.kinds import CONSOLE
from deconvseg.progress import SILENT, Console

_Path = str | PathLike[str]


def _check_fold(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not (text.isdecimal() or text == "all"):
        raise ValueError
    return text


def _check_folds(values: Any) -> list[str]:
    if isinstance(values, str | int):
        return [_check_fold(values)]
    folds = [_check_fold(value) for value in values]
    if not folds or len(set(folds)) < len(folds):
        raise ValueError
    return folds


_FOLDS = Kind(
    _check_folds,
    "different numbers of folds, or 'all'",
    read=_check_fold,
    wanted_text="a number of a fold, or all",
    metavar="FOLD",
    parsed=list[str],
    gather=list,
)


def _presets() -> Sequence[str]:
    from deconvseg.catalog import PRESETS

    return [name for name, preset in PRESETS.items() if "deconver" in preset.networks]


@dataclass(frozen=True)
class NNUNetImportOptions(Options):
    """The options of ``deconvseg nnunet import``."""

    results: Annotated[
        _Path, Option("Folder TRAINER__PLANS__CONFIGURATION of nnU-Net's results.", PLACE, positional=True)
    ]
    output: Annotated[
        _Path | None,
        Option("Folder for the run; by default one of the name of the results, here.", PLACE, ("o", "output")),
    ] = None
    _: KW_ONLY
    folds: Annotated[
        Sequence[int | str] | None,
        Option("Fold to take, also 'all'; may be repeated. By default every finished one.", _FOLDS, ("f", "fold")),
    ] = None
    console: Annotated[Console | bool | None, CONSOLE] = SILENT


@dataclass(frozen=True)
class OfficialImportOptions(Options):
    """The options of ``deconvseg import-official``."""

    checkpoint: Annotated[_Path, Option("Checkpoint (.pt) of the authors' code.", PLACE, positional=True)]
    output: Annotated[_Path, Option("Folder for the run.", PLACE, ("o", "output"))]
    _: KW_ONLY
    preset: Annotated[
        str, Option("Dataset of the paper that it was trained on, whose preprocessing the run has.", name_of(_presets))
    ]
    console: Annotated[Console | bool | None, CONSOLE] = SILENT
