"""Kinds of options that only some commands use: names in registries, folds, plans, patches, upsampling."""

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from deconvseg.errors import check_choice
from deconvseg.options.declaring import PLACE, TEXT, Kind, Option, name_of, whole
from deconvseg.progress import choose_console

PRECISIONS = ("auto", "32", "bf16", "16")
STRATEGIES = ("ddp", "fsdp")
MASK_FORMATS = ("dicom-seg", "nifti")
SEGMENTATION_TYPES = ("binary", "labelmap", "fractional")
TRACKERS = ("tensorboard", "mlflow", "wandb")


def _models() -> Sequence[str]:
    from deconvseg.models import list_models

    return list_models()


def _presets() -> Sequence[str]:
    from deconvseg.catalog import PRESETS

    return tuple(PRESETS)


def _recipes() -> Sequence[str]:
    from deconvseg.planning import RECIPES

    return tuple(RECIPES)


def _find_device(name: str) -> object:
    from deconvseg.system import choose_device

    return choose_device(name)


def _find_upsampling(upsampling: Any) -> object:
    from deconvseg.nn.upsampling import choose_upsampling

    return choose_upsampling(upsampling)


def _check_fold(value: Any) -> Any:
    return value if value == "all" else whole(0).check(value)


def _read_fold(text: str) -> Any:
    return text if text == "all" else whole(0).check(int(text))


def _check_plan(value: Any) -> Any:
    if isinstance(value, str | PathLike):
        return PLACE.check(value)
    from deconvseg.planning import Plan

    if not isinstance(value, Plan):
        raise TypeError
    return value


def _check_patch(value: Any) -> int | list[int]:
    check = whole(1).check
    try:
        number: int = check(value)
    except TypeError:
        sizes: list[int] = [check(size) for size in value]
        if isinstance(value, str) or len(sizes) not in (2, 3):
            raise ValueError from None
        return sizes
    return number


def _read_patch(text: str) -> int | list[int]:
    parts = re.split(r"\s*[x×,]\s*|\s+", text.strip().strip("[]()").strip().lower())
    numbers = [int(part) for part in parts]
    return _check_patch(numbers[0] if len(numbers) == 1 else numbers)


def _check_upsampling(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError
    return value["kind"] if value.keys() == {"kind"} else dict(value)


def _read_upsampling(text: str) -> Any:
    return _check_upsampling(json.loads(text) if text.lstrip().startswith("{") else text)


def _check_mask_format(value: Any) -> str:
    if value not in MASK_FORMATS and not re.match(r"dicomweb(\+http)?:/", value):
        raise ValueError
    return str(value)


def _check_trackers(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    return [TEXT.check(name) for name in dict.fromkeys(names)]


def _find_trackers(value: str | Sequence[str]) -> None:
    for name in [value] if isinstance(value, str) else value:
        check_choice(name, TRACKERS, "tracker")


MODEL = name_of(_models)
PRESET = name_of(_presets)
RECIPE = name_of(_recipes)
PRECISION = name_of(lambda: PRECISIONS)
PREDICTION_PRECISION = name_of(lambda: ("auto", "32", "bf16"))
STRATEGY = name_of(lambda: STRATEGIES)
SEGMENTATION_TYPE = name_of(lambda: SEGMENTATION_TYPES)
MASK_FORMAT = Kind(_check_mask_format, "dicom-seg, nifti or dicomweb://HOST/PATH", metavar="FORMAT")
WEIGHTS = name_of(lambda: ("final", "best"))
DEVICE_NAME = TEXT._replace(find=_find_device)
FOLD = Kind(_check_fold, "a number from 0, or 'all'", read=_read_fold, wanted_text="a number from 0, or all")
COLUMN = TEXT._replace(metavar="COLUMN")
REGEX = TEXT._replace(metavar="REGEX")
TRACK = Kind(
    _check_trackers,
    "a name, or a sequence of names",
    read=TEXT.check,
    metavar="NAME",
    parsed=list[str],
    gather=list,
    find=_find_trackers,
)
# The file of a plan, or in Python also a plan.
PLAN = PLACE._replace(check=_check_plan, wanted="a plan or its file", read=PLACE.check)
PATCH = Kind(
    _check_patch,
    "a whole number, or one for each axis, such as (96, 96, 64)",
    form=", such as (96, 96, 64)",
    read=_read_patch,
    wanted_text="a whole number, or one for each axis, such as 96x96x64",
    text_form=", such as 96x96x64",
    metavar="SIZE",
)
UPSAMPLING = Kind(
    _check_upsampling,
    "a name, or a mapping with a kind and its options",
    form=", such as 'dtc+transposed' or {'kind': 'dtc', 'receptive_field': 2}",
    read=_read_upsampling,
    wanted_text="a name, or JSON with a kind and its options",
    text_form=', such as dtc+transposed or \'{"kind": "dtc", "receptive_field": 2}\'',
    metavar="KIND",
    find=_find_upsampling,
)
CONSOLE = Option(
    "Where messages and progress appear: True for the screen, or a console; by default nowhere.",
    Kind(choose_console, "a console", python_only=True),
    resume="call",
)
