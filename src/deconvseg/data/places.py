"""Names of files in what is shared: relative to the file that has them, without the home folder of who made them."""

import os
from pathlib import Path


def name_beside(file: Path, folder: Path) -> str:
    """Return how a file in ``folder`` names another one: relative to the folder, or from the home folder (``~/…``).

    The latter only where the file lies in the user's home folder and ``folder`` does not; where neither is possible
    (another drive), the whole path.
    """
    folder = folder.resolve()
    # Only the folder: a link keeps its own name.
    path = file.absolute().parent.resolve() / file.name
    home = Path.home().resolve()
    if path.is_relative_to(home) and not folder.is_relative_to(home):
        return f"~/{path.relative_to(home).as_posix()}"
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path)


def find_beside(name: str, folder: Path) -> Path:
    """Return the file that :func:`name_beside` has named; a whole path, as in records of before, is itself."""
    if name.startswith("~/"):
        return Path.home() / name[2:]
    return Path(os.path.normpath(folder.resolve() / name))
