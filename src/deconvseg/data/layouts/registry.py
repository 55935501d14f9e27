"""Registry of layouts, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deconvseg.data.dataset import Dataset
from deconvseg.errors import InputError
from deconvseg.system import load_plugins, naming

_PLUGINS = "deconvseg.layouts"


@dataclass(frozen=True)
class Layout:
    """A registered layout: its name, its description, and functions that recognise and open a path.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import list_layouts
        >>> [layout.name for layout in list_layouts() if layout.recognises(Path("DATASET"))]
        ['folders']

    """

    name: str
    looks: str
    recognises: Callable[[Path], bool]
    opens: Callable[[Path], Dataset]


_LAYOUTS: list[Layout] = []


def register_layout(
    name: str,
    *,
    looks: str,
    recognises: Callable[[Path], bool],
    opens: Callable[[Path], Dataset],
    before: str | None = None,
) -> None:
    """Register a layout of datasets for `open_dataset` and all commands.

    ``recognises`` returns whether a file or folder has the layout; it should only read names and small files. The
    first layout that recognises a path opens it. A new layout is tried last, or directly ``before`` another layout, if
    it is the more specific one. ``opens`` lists the cases without reading pixels; problems of single files go into the
    dataset's ``problems`` (see `find_left_out` for images that no case uses). ``looks`` is a phrase for the error
    message that lists the layouts, such as ``"scans/ and truth/"``. A package registers a layout for the command line
    as an entry point of the group ``deconvseg.layouts``.

    Raises `InputError` for a name in use and for an unknown ``before``.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import Case, Dataset, open_dataset, register_layout, unregister_layout
        >>> def opens(folder):
        ...     scans = sorted((folder / "scans").iterdir())
        ...     cases = tuple(Case(scan.stem, (scan,), folder / "truth" / scan.name) for scan in scans)
        ...     return Dataset(folder, "pairs", cases, ("grey",), {})
        >>> register_layout(
        ...     "pairs", looks="scans/ and truth/", recognises=lambda path: (path / "scans").is_dir(), opens=opens
        ... )
        >>> Path("mine").mkdir()
        >>> Path("mine/scans").symlink_to(Path("SCANS").resolve())
        >>> open_dataset("mine").cases[0].name
        'disc0'
        >>> unregister_layout("pairs")

    """
    names = [layout.name for layout in _LAYOUTS]
    if name in names:
        raise InputError(f"there is a layout {name!r}: choose another name, or unregister that one first")
    if before is not None and before not in names:
        raise InputError(f"before={before!r}: there is no such layout; known are {', '.join(names)}")
    place = len(names) if before is None else names.index(before)
    _LAYOUTS.insert(place, Layout(name, looks, recognises, opens))


def unregister_layout(name: str) -> None:
    """Remove a layout; `InputError` for an unknown name.

    Example:
        >>> from deconvseg.data import list_layouts, register_layout, unregister_layout
        >>> register_layout("mine", looks="a folder of mine", recognises=lambda path: False, opens=lambda path: None)
        >>> unregister_layout("mine")
        >>> "mine" in [layout.name for layout in list_layouts()]
        False

    """
    found = next((layout for layout in _LAYOUTS if layout.name == name), None)
    if found is None:
        raise InputError(f"there is no layout {name!r}; known are {', '.join(layout.name for layout in _LAYOUTS)}")
    _LAYOUTS.remove(found)


def list_layouts() -> tuple[Layout, ...]:
    """Return the registered layouts in the order in which they are tried.

    Example:
        >>> from deconvseg.data import list_layouts
        >>> {"nnunet", "folders", "bids"} <= {layout.name for layout in list_layouts()}
        True

    """
    load_plugins(_PLUGINS)
    return tuple(_LAYOUTS)


def find_layout(path: Path) -> Layout | None:
    """Return the first layout that recognises a path, or None."""
    for layout in list_layouts():
        with naming(f"{path}: the layout {layout.name!r}"):
            if layout.recognises(path):
                return layout
    return None
