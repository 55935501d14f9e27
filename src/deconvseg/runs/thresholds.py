"""The file with the chosen threshold of a run or a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from deconvseg.data import list_names
from deconvseg.errors import InputError, suggest
from deconvseg.runs.records import read_record
from deconvseg.system import write_text

# One number for all structures, or numbers by name.
Threshold: TypeAlias = float | Mapping[str, float]
# The thresholds at which operating points are measured, in hundredths.
GRID = tuple(number / 100 for number in range(1, 100))
THRESHOLD = "threshold.json"


class ChosenThreshold(BaseModel):
    """A threshold and a description of how it was chosen.

    ``weights`` are the SHA-256 of the weights for which it was chosen, one per run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    threshold: float | dict[str, float]
    how: str
    weights: tuple[str | None, ...] = ()

    def of(self, name: str, *, at_half: bool) -> float | None:
        """Return the threshold of a structure; None if it has none.

        A single number applies to each structure whose default is 0.5 (``at_half``); for mutually exclusive classes it
        applies to all foreground.
        """
        if isinstance(self.threshold, dict):
            return self.threshold.get(name)
        return self.threshold if at_half else None

    def write(self, folder: Path) -> None:
        """Write ``threshold.json`` into the folder."""
        write_text(folder / THRESHOLD, self.model_dump_json(indent=2) + "\n")


def read_threshold(folder: str | PathLike[str]) -> ChosenThreshold | None:
    """Read a folder's ``threshold.json``; None if it does not exist; :class:`InputError` names an invalid key.

    Example:
        >>> from deconvseg.runs import read_threshold
        >>> read_threshold("RUN") is None
        True

    """
    path = Path(folder) / THRESHOLD
    found = read_record(path, ChosenThreshold, "choose the threshold again")
    if found is None:
        return None
    values = found.threshold.values() if isinstance(found.threshold, dict) else [found.threshold]
    if not all(is_threshold(value) for value in values):
        raise InputError(f"{path}: threshold: not between 0 and 1; choose the threshold again")
    return found


def check_threshold(threshold: object, names: Sequence[str], argument: str = "threshold") -> float | dict[str, float]:
    """Return a checked threshold in the form in which it is stored; errors name the ``argument``.

    Raises :class:`InputError` for values that are not numbers between 0 and 1, and for unknown names.

    Example:
        >>> from deconvseg.runs import check_threshold
        >>> check_threshold({"lesion": 0.3}, ["organ", "lesion"])
        {'lesion': 0.3}

    """
    if not isinstance(threshold, Mapping):
        if not is_threshold(threshold):
            raise InputError(f"`{argument}={threshold!r}`: give a number between 0 and 1")
        return float(threshold)  # type: ignore[arg-type]
    if not threshold:
        raise InputError(f"`{argument}={{}}`: give a number, or numbers by the names of classes")
    if unknown := [name for name in threshold if name not in names]:
        nearest = suggest(str(unknown[0]), names)
        raise InputError(
            f"`{argument}`: there is no class {unknown[0]!r}; {nearest}the classes are {list_names(names, 20)}"
        )
    if twice := [name for name in threshold if list(names).count(name) > 1]:
        raise InputError(f"`{argument}`: several classes have the name {twice[0]!r}; give one number for all")
    for name, value in threshold.items():
        if not is_threshold(value):
            raise InputError(f"`{argument}`: {value!r} for {name}; give a number between 0 and 1")
    # In the order of the classes, so that equal thresholds are stored equally.
    return {name: float(threshold[name]) for name in names if name in threshold}


def is_threshold(value: object) -> bool:
    """Return whether a value is a number between 0 and 1, both excluded.

    Example:
        >>> from deconvseg.runs import is_threshold
        >>> is_threshold(0.3), is_threshold(1)
        (True, False)

    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value < 1


def format_threshold(threshold: Threshold) -> str:
    """Return a threshold as text.

    Example:
        >>> from deconvseg.runs import format_threshold
        >>> format_threshold({"lesion": 0.3, "oedema": 0.4})
        'lesion 0.3, oedema 0.4'

    """
    if isinstance(threshold, Mapping):
        return ", ".join(f"{name} {value:g}" for name, value in threshold.items())
    return f"{threshold:g}"
