"""Messages about missing paths, with a suggestion of a similar existing path."""

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path

from deconvseg.errors import nearest_names

# Most entries of a folder that are compared, for example of a large dataset.
_MOST_ENTRIES = 10_000


def does_not_exist(path: Path) -> str:
    """Return the message that a path does not exist, with the most similar existing path, if there is one.

    >>> does_not_exist(Path("/no/such/folder"))
    '/no/such/folder does not exist'
    """
    nearest = _nearest(path)
    return f"{path} does not exist{f' (did you mean {str(nearest)!r}?)' if nearest else ''}"


def _nearest(path: Path) -> Path | None:
    """Return the path with its first missing part replaced by a similar existing name; None if there is none."""
    with suppress(OSError, ValueError):
        parents = [part for part in (path, *path.parents) if not os.path.lexists(part)]
        if not parents:
            return None
        missing = parents[-1]
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
        for name in nearest_names(missing.name, names):
            found = missing.with_name(name) / path.relative_to(missing)
            if found.exists():
                return found
    return None
