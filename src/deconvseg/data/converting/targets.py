"""The registry of layouts that datasets are converted to."""

from __future__ import annotations

from collections.abc import Mapping

from deconvseg.data.converting.decathlon import DECATHLON
from deconvseg.data.converting.nnunet import NNUNET
from deconvseg.data.converting.target import Target
from deconvseg.errors import check_choice

TARGETS: Mapping[str, Target] = {target.name: target for target in (NNUNET, DECATHLON)}


def find_target(name: str) -> Target:
    """Return a layout by its name; `InputError` for an unknown one."""
    check_choice(name, TARGETS, "`to`")
    return TARGETS[name]
