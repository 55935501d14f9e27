"""Check that an image and a mask have the same grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data.headers import read_header
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError


def check_same_grid(first: Image | LabelMap, first_path: Path, second: Image | LabelMap, second_path: Path) -> None:
    """Raise an `InputError` with both files and both values if shapes or geometries differ."""
    if first.shape != second.shape:
        raise InputError(
            f"{second_path} has the shape {_show(second.shape)}, but {first_path} has {_show(first.shape)}; "
            f"they must be on the same grid{_turned(first_path, second_path)}"
        )
    if first.geometry.matches(second.geometry):
        return

    def differs(name: str) -> bool:
        ours, theirs = getattr(first.geometry, name), getattr(second.geometry, name)
        return not first.geometry.agrees(ours, theirs, second.geometry)

    name = next((name for name in ("spacing", "origin") if differs(name)), "direction")
    ours, theirs = (np.ravel(getattr(side.geometry, name)) for side in (first, second))
    tolerance = min(first.geometry.tolerance, second.geometry.tolerance)
    raise InputError(
        f"{second_path} has the {name} {_show(theirs)}, but {first_path} has {_show(ours)} (tolerance {tolerance:.2g} "
        "mm); resample one of them or repair its header"
    )


def _turned(*paths: Path) -> str:
    """Return a hint if an EXIF orientation turns exactly one of two files."""
    try:
        turned = [path for path in paths if read_header(path).orientation != 1]
    except InputError:
        return ""  # not a file, or deleted meanwhile
    if len(turned) != 1:
        return ""
    return f" ({turned[0]} is turned as its EXIF orientation says: turn the other one too, or save it without EXIF)"


def _show(values: Any) -> str:
    return "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"
