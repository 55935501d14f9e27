"""The datasets of a protocol on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data import Dataset, list_layouts, open_dataset
from deconvseg.errors import InputError, check_choice
from deconvseg.system import does_not_exist


def find_datasets(data: Mapping[str, str], names: Iterable[str]) -> dict[str, Dataset]:
    """Return the datasets of these names.

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
            found[name] = open_dataset(path)
    if missing:
        raise InputError(_describe_missing(missing, root, list(found)))
    return found


def _find(root: Path | None, name: str, *, single: bool) -> Path | None:
    """Return the folder of a dataset: by its layout, else by its name, else the root if it is any dataset."""
    folders = [] if root is None else list(_folders(root))
    for folder in folders:
        if _layout(folder) == name:
            return folder
    for folder in folders:
        if folder.name.lower().startswith(name) and _layout(folder) is not None:
            return folder
    return root if single and root is not None and _layout(root) is not None and _layout(root) not in CARDS else None


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder, its folders, and theirs."""
    yield root
    if not root.is_dir() or _layout(root) is not None:
        return
    first = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    yield from first
    for folder in first:
        if _layout(folder) is None:
            yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _layout(path: Path) -> str | None:
    """Return the name of a path's layout, or None; damaged descriptions are reported when the dataset is opened."""
    try:
        return next((layout.name for layout in list_layouts() if layout.recognises(path)), None)
    except (InputError, OSError):
        return None


def _describe_missing(missing: list[str], root: Path | None, found: list[str]) -> str:
    where = "no folder is given" if root is None else f"not in {root} or its folders"
    cards = " and ".join(f"'deconvseg data card {name}'" for name in missing)
    several = f", or reproduce only {', '.join(found)} (`datasets`)" if found else ""
    return (
        f"{', '.join(missing)}: {where}; {cards} {'says' if len(missing) == 1 else 'say'} how to get it; give its "
        f"folder by name (`data`, such as {missing[0]}=FOLDER){several}"
    )
