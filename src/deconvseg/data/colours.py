"""Colours: the names of colour channels, and the display colours of classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from deconvseg.errors import InputError

# The names that colour channels are given, and that a dataset may declare them by.
RGB = ("red", "green", "blue")

# Okabe and Ito's colours (Color Universal Design, 2008), black left out: readers with any kind of colour vision tell
# them apart, on grey scans, red fundus and skin photographs, white paper and dark screens. Then lighter ones of them.
_OKABE_ITO = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#f0e442")
_LIGHTER = ("#aadaf4", "#f2cf80", "#e6bcd3", "#80cfb9", "#eaaf80", "#80b8d8", "#f8f2a0")
CLASS_COLOURS = (*_OKABE_ITO, *_LIGHTER)

_HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def is_rgb(channel_names: Sequence[str]) -> bool:
    """Return whether these are the channel names of a colour image."""
    return tuple(name.lower() for name in channel_names) in (RGB, ("r", "g", "b"))


def parse_colour(text: str) -> str:
    """Parse a colour ``#rrggbb`` or ``#rgb`` to ``#rrggbb`` in lower case; `InputError` for anything else.

    Example:
        >>> from deconvseg.data import parse_colour
        >>> parse_colour("#F80")
        '#ff8800'

    """
    found = _HEXADECIMAL.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is not a colour; write it as #rrggbb, such as #ff8800")
    digits = found[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(2 * digit for digit in digits))


def colour_numbers(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def default_colour(place: int) -> str:
    """Return the default colour ``#rrggbb`` of the class with this index, for classes without a declared colour."""
    return CLASS_COLOURS[place % len(CLASS_COLOURS)]


def class_colours(names: Sequence[str], declared: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the colour ``#rrggbb`` of each class by name: the ``declared`` colour, else the default of its index.

    A default that another class declares is skipped, so that no two classes have the same colour as long as there are
    enough defaults.

    Example:
        >>> from deconvseg.data import class_colours
        >>> class_colours(["kidney", "tumour"], {"tumour": "#56b4e9"})
        {'kidney': '#e69f00', 'tumour': '#56b4e9'}

    """
    given = {name: colour for name, colour in (declared or {}).items() if name in names}
    free = [colour for colour in CLASS_COLOURS if colour not in given.values()] or list(CLASS_COLOURS)
    if not given:
        return {name: default_colour(place) for place, name in enumerate(names)}
    undeclared = [name for name in names if name not in given]
    places = {name: place for place, name in enumerate(undeclared)}
    return {name: given.get(name) or free[places[name] % len(free)] for name in names}
