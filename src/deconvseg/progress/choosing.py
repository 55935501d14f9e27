"""Choose the console that an argument ``console`` stands for."""

from __future__ import annotations

from typing import Any

from deconvseg.errors import InputError
from deconvseg.progress.protocol import SILENT, Console
from deconvseg.progress.screen import screen

WANTED = (
    "True for the screen, None or False for nothing, or an object with say(text) and track(text, total), such as "
    "deconvseg.progress.Lines(print)"
)


def choose_console(console: Any) -> Console:
    """Return the console for an argument: True is :func:`screen`, None and False are :data:`SILENT`.

    An object with the methods ``say`` and ``track`` is returned unchanged; others raise
    :class:`~deconvseg.errors.InputError`.

    Example:
        >>> from deconvseg.progress import SILENT, Lines, choose_console
        >>> lines = Lines(print)
        >>> choose_console(lines) is lines, choose_console(None) is SILENT
        (True, True)

    """
    if console is None or console is False:
        return SILENT
    if console is True:
        return screen()
    methods = (getattr(console, name, None) for name in ("say", "track"))
    if isinstance(console, type) or not all(map(callable, methods)):
        raise InputError(f"`console={console!r}`: give {WANTED}")
    chosen: Console = console
    return chosen
