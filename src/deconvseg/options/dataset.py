"""The options for reading a dataset: files of images and masks, names of labels, excluded cases."""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.options.declaring import FLAG, Kind, Option

# The arguments of `deconvseg.data.open_dataset` that are options.
READING = ("foreground", "group_by", "image", "mask", "labels", "exclude", "series")


def _check_texts(value: Any) -> list[str]:
    """One text, several texts, or a mapping for texts such as ``key=value``."""
    if isinstance(value, str | PathLike):
        return [fspath(value)]
    if isinstance(value, Mapping):
        value = [f"{name}={text}" for name, text in value.items()]
    texts = [fspath(text) for text in value]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return texts


def _check_labels(value: Any) -> list[str]:
    """Texts such as ``1=organ``; a file is replaced by its texts, so that a run does not depend on it."""
    from deconvseg.data import declare_labels, parse_labels

    entries = parse_labels(_check_texts(value))
    try:
        declare_labels(entries, "labels")
    except InputError as error:
        # The caller names the option.
        raise InputError(str(error).removeprefix("labels: ")) from error
    return [str(entry) for entry in entries]


def _check_exclusions(value: Any) -> list[str]:
    from deconvseg.data import read_exclusions

    texts = _check_texts(value)
    files = {text for text in texts if text.lower().endswith(".txt") and Path(text).is_file()}
    return [line for text in texts for line in (read_exclusions(text) if text in files else [text])]


_TEXTS = Kind(_check_texts, "a text or several", read=str, parsed=list[str], gather=list)
PATTERNS = _TEXTS._replace(
    metavar="PATTERN", form=', such as {"t1": "*_t1.nii.gz"}', text_form=", such as t1=*_t1.nii.gz"
)
LABELS_KIND = _TEXTS._replace(
    check=_check_labels, wanted="labels, such as 1=organ, or a file of labels", metavar="VALUE=NAME", read=str
)
EXCLUSIONS = _TEXTS._replace(check=_check_exclusions, wanted="names of cases", metavar="CASE")

IMAGE = Option(
    "Pattern of the image files, such as '*.png' or '**/*.png'; for several channels, one pattern per name{form}.",
    PATTERNS,
)
MASK = Option(
    "Pattern of the mask files, such as '*_mask*.png'; several masks of a case are merged; for several classes, one "
    "per name, such as organ=*_organ.png.",
    PATTERNS,
)
LABELS = Option(
    "Name of a label: 1=organ or 1=organ:#ff8800; also 255=ignore, a region tumour=1,2, or a file of labels (.json, "
    ".csv, .txt).",
    LABELS_KIND,
)
EXCLUDE = Option(
    "Leave out a case by its name or a pattern, with an optional reason: case_012, 'scan_*', case_012=blurred; or a "
    ".txt file of such lines.",
    EXCLUSIONS,
)
SERIES = Option(
    "Choose a series where a folder of DICOM has several: by its UID, description or modality, also as a pattern such "
    "as 'T1*'.",
    _TEXTS._replace(wanted="UIDs, descriptions or modalities", metavar="SERIES"),
)
CHANNEL = Option(
    "Choose the DICOM series of a channel by its UID or description{form}; by default as the plan's channels say.",
    _TEXTS._replace(
        wanted="NAME=UID", metavar="NAME=UID", form=', such as {"FLAIR": "1.2.840.1"}', text_form=", as FLAIR=1.2.840.1"
    ),
)
FOREGROUND = Option("Treat every label above zero as one class (instance maps).", FLAG)
