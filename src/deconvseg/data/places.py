"""File names in shared records: relative to the record, without the user's home folder."""

import os
from pathlib import Path


def name_beside(file: Path, folder: Path) -> str:
    """Return the name of a file for a record in ``folder``: relative to the folder, or to the home folder (``~/…``).

    The home folder is used only if it contains the file but not ``folder``. If no relative path exists (another
    drive), the absolute path is returned.
    """
    folder = folder.resolve()
    # Resolve only the folder: a link keeps its own name.
    path = file.absolute().parent.resolve() / file.name
    home = Path.home().resolve()
    if path.is_relative_to(home) and not folder.is_relative_to(home):
        return f"~/{path.relative_to(home).as_posix()}"
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path)


def find_beside(name: str, folder: Path) -> Path:
    """Return the file named by :func:`name_beside`; absolute paths, as in older records, are returned unchanged."""
    if name.startswith("~/"):
        return Path.home() / name[2:]
    return Path(os.path.normpath(folder.resolve() / name))
