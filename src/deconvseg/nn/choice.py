"""Names that stand for one of a few things."""

from collections.abc import Iterable
from difflib import get_close_matches

from deconvseg.errors import InputError


def check_choice(value: str, known: Iterable[str], what: str) -> None:
    """Refuse a name that is not known, suggesting the nearest ones."""
    choices = list(known)
    if value in choices:
        return
    nearest = get_close_matches(str(value), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise InputError(f"{what} {value!r} is unknown: {hint}choose from {', '.join(choices) or 'none'}")
