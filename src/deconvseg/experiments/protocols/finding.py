"""The datasets of a protocol on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data import Dataset, list_layouts, list_names, open_dataset
from deconvseg.errors import InputError, check_choice
from deconvseg.system import does_not_exist

# Most folders in one that is searched for datasets.
_MOST = 100


def find_datasets(data: Mapping[str, str], names: Iterable[str], merged: Collection[str] = ()) -> dict[str, Dataset]:
    """Return the datasets of these names; the labels of those in ``merged`` are merged into one class.

    ``data`` has folders by name of the dataset, and under ``""`` a folder that holds datasets as they were downloaded,
    or is one of them. In it a dataset is recognised by its layout, else by the name of its folder. Raises
    :class:`~deconvseg.errors.InputError`, which names all that are missing.
    """
    wanted = list(names)
    for name in data:
        if name:
            check_choice(name, wanted, "`data`: dataset")
    root = None if data.get("") is None else Path(data[""])
    for given in map(Path, data.values()):
        if not given.exists():
            raise InputError(f"{does_not_exist(given)}; give the folder of the data (`data`)")
    found: dict[str, Dataset] = {}
    missing = []
    for name in wanted:
        path = Path(data[name]) if name in data else _find(root, name, single=wanted == [name])
        if path is None:
            missing.append(name)
        else:
            found[name] = open_dataset(path, foreground=name in merged)
    if missing:
        raise InputError(_describe_missing(missing, root, list(found)))
    return found


def _find(root: Path | None, name: str, *, single: bool) -> Path | None:
    """Return the folder of a dataset: by its layout, else by its name, else the root if it is any dataset."""
    folders = [] if root is None else list(_folders(root))
    for folder in folders:
        if _layout(folder) == name:
            return folder
    named = [folder for folder in folders if folder.name.lower().startswith(name) and _layout(folder) is not None]
    if len(named) > 1:
        raise InputError(
            f"{name}: {list_names(named)} have this name; say which one (`data`, such as {name}={named[0]})"
        )
    if named:
        return named[0]
    return root if single and root is not None and _layout(root) is not None and _layout(root) not in CARDS else None


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of a folder, itself, and the folders of those that are no dataset."""
    first = _children(root)
    # A folder of several datasets may itself have the layout of one of them.
    yield from first
    yield root
    for folder in first:
        if _layout(folder) is None:
            yield from _children(folder)


def _children(folder: Path) -> list[Path]:
    """Return the folders in a folder; none of one with as many as a dataset has cases."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(path for path in found if not path.name.startswith(".")) if len(found) <= _MOST else []


def _layout(path: Path) -> str | None:
    """Return the name of a path's layout, or None; damaged descriptions are reported when the dataset is opened."""
    try:
        return next((layout.name for layout in list_layouts() if layout.recognises(path)), None)
    except (InputError, OSError):
        return None


def _describe_missing(missing: list[str], root: Path | None, found: list[str]) -> str:
    where = "no folder is given" if root is None else f"not in {root} or its folders"
    cards = [f"'deconvseg data card {name}'" for name in missing if name in CARDS]
    told = f"; {' and '.join(cards)} {'says' if len(cards) == 1 else 'say'} how to get it" if cards else ""
    several = f", or reproduce only {', '.join(found)} (`datasets`)" if found else ""
    return (
        f"{', '.join(missing)}: {where}{told}; give its folder by name (`data`, such as {missing[0]}=FOLDER){several}"
    )
