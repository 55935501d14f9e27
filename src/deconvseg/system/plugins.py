"""Extensions from installed packages: entry points of a group, imported when the group is first needed."""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points

from deconvseg.system.foreign import one_line

_log = logging.getLogger("deconvseg")
_loaded: set[str] = set()
_loading: list[str] = []


def load_plugins(group: str) -> None:
    """Import the modules that installed packages name as entry points of ``group``, once; they register themselves.

    Only installed packages are searched, never the files of a dataset. A module that cannot be imported is skipped with
    a warning in the log. ``DECONVSEG_PLUGINS=0`` in the environment disables all extensions.
    """
    if group in _loaded:
        return
    _loaded.add(group)
    if os.environ.get("DECONVSEG_PLUGINS") == "0":
        return
    for entry in entry_points(group=group):
        _loading.append(entry.name)
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 (one broken package must not break every command)
            package = entry.dist.name if entry.dist is not None else entry.value
            message = "%s: %r of the package %s cannot be loaded and is left out (%s)"
            _log.warning(message, group, entry.name, package, one_line(error))
        finally:
            _loading.pop()


def is_loading() -> bool:
    """Whether an installed package is being imported by `load_plugins`."""
    return bool(_loading)
