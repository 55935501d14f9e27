"""The options for choosing a threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Annotated, Any, Literal

from deconvseg.options.declaring import PLACE, SHARE, THRESHOLDS, Kind, Option, Options


def _check_best(value: Any) -> str:
    if value != "dice":
        raise ValueError
    return "dice"


def _check_classes(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError
    return names


_VALUE = THRESHOLDS._replace(
    wanted="a number between 0 and 1, or a mapping of classes to such numbers",
    wanted_text="a number between 0 and 1, such as 0.35, or one for a class, such as lesion=0.3",
    text_form=", such as 0.35, or lesion=0.3 for a class",
)


@dataclass(frozen=True)
class ThresholdOptions(Options):
    """The options of ``deconvseg threshold``."""

    run: Annotated[str | PathLike[str], Option("Folder of a run or a cross-validation.", PLACE, positional=True)]
    value: Annotated[float | Mapping[str, float] | None, Option("Choose this threshold{form}.", _VALUE, ("set",))] = (
        None
    )
    _: KW_ONLY
    best: Annotated[
        Literal["dice"] | None, Option("Choose the threshold with the best mean Dice: dice.", Kind(_check_best, "dice"))
    ] = None
    sensitivity: Annotated[
        float | None, Option("Choose the largest threshold at which this share of the true voxels is predicted.", SHARE)
    ] = None
    lesion_sensitivity: Annotated[
        float | None, Option("Choose the largest threshold at which this share of the true lesions is found.", SHARE)
    ] = None
    classes: Annotated[
        Sequence[str] | None,
        Option(
            "Choose only for these classes.",
            Kind(_check_classes, "names of classes", read=lambda text: text.split(",")),
            ("class",),
        ),
    ] = None
