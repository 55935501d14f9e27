"""The names of colour channels."""

from __future__ import annotations

from collections.abc import Sequence

# The names that colour channels are given, and that a dataset may declare them by.
RGB = ("red", "green", "blue")


def is_rgb(channel_names: Sequence[str]) -> bool:
    """Whether these are the channels of a colour image, by their names."""
    return tuple(name.lower() for name in channel_names) in (RGB, ("r", "g", "b"))
