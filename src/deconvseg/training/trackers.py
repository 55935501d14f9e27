"""Trackers of other software, by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from deconvseg.options import TRACKERS
from deconvseg.training.tracking import Tracker

# The floor that has them is higher, so it is imported by name when one is asked for.
_HOME = "deconvseg.integrations.trackers"


def create_trackers(names: Sequence[str]) -> list[Tracker]:
    """Return trackers by name; :class:`~deconvseg.errors.MissingPackageError` names the extra that one needs."""
    if not names:
        return []
    create = import_module(_HOME).create_tracker
    return [create(name) for name in TRACKERS if name in names]
