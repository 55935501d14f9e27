"""The options of plans for nnU-Net, and of an upgrade of its checkpoints."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Annotated, Any

from deconvseg.options.declaring import BYTES, PLACE, TEXT, Kind, Option, Options, name_of, whole
from deconvseg.options.kinds import CONSOLE, UPSAMPLING
from deconvseg.progress import SILENT, Console

# The networks of nnU-Net itself, by the names of their classes.
NNUNET_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")

_Path = str | PathLike[str]


def _networks() -> Sequence[str]:
    from deconvseg.models import list_models

    return (*list_models(), *NNUNET_NETWORKS)


def _check_dataset(value: Any) -> int | str:
    if isinstance(value, str) and not value.isdecimal():
        return value
    number: int = whole(0).check(int(value) if isinstance(value, str) else value)
    return number


def _check_plans(value: Any) -> str:
    """Return a name of plans, which is that of a file too: without a folder."""
    if re.fullmatch(r"\w[\w.-]*", value) is None:
        raise ValueError
    return str(value)


_PLANS = TEXT._replace(check=_check_plans, wanted="a name without a folder, such as deconvsegPlans", metavar="NAME")
_DATASET = Kind(_check_dataset, "a number, or a name such as Dataset004_Hippocampus", read=_check_dataset, metavar="ID")


@dataclass(frozen=True)
class NNUNetPlanOptions(Options):
    """The options of ``deconvseg nnunet plan``."""

    dataset: Annotated[int | str, Option("Number or name of nnU-Net's dataset.", _DATASET, ("d", "dataset"))]
    _: KW_ONLY
    model: Annotated[
        str,
        Option(
            "A network of 'deconvseg models', or nnU-Net's own PlainConvUNet or ResidualEncoderUNet.",
            name_of(_networks),
        ),
    ] = "deconver"
    upsampling: Annotated[
        str | Mapping[str, Any] | None,
        Option("The network's upsampling{form}; by default its own, for nnU-Net's dtc+transposed.", UPSAMPLING),
    ] = None
    width: Annotated[
        int | None,
        Option("Channels of the network's first stage; by default the most for which the memory suffices.", whole(1)),
    ] = None
    memory: Annotated[
        int | None, Option("GPU memory that a training may use{form}; by default 8 GB, nnU-Net's own.", BYTES)
    ] = None
    plans: Annotated[str, Option("Name of the plans, for nnU-Net's -p.", _PLANS, ("p", "plans"))] = "deconvsegPlans"
    console: Annotated[Console | bool | None, CONSOLE] = SILENT


@dataclass(frozen=True)
class NNUNetUpgradeOptions(Options):
    """The options of ``deconvseg nnunet upgrade``."""

    results: Annotated[
        _Path, Option("Folder TRAINER__PLANS__CONFIGURATION of nnU-Net's results.", PLACE, positional=True)
    ]
    output: Annotated[_Path, Option("Folder for the new checkpoints, one for each fold.", PLACE, ("o", "output"))]
    _: KW_ONLY
    upsampling: Annotated[
        str | Mapping[str, Any], Option("The upsampling that replaces nnU-Net's own{form}.", UPSAMPLING)
    ] = "dtc+transposed"
    plans: Annotated[str, Option("Name of the new plans, for nnU-Net's -p.", _PLANS, ("p", "plans"))] = "deconvsegPlans"
