"""Write a synthetic dataset: the built-in one, or a tree with the names of a published dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.demo.brats23 import write_brats23
from deconvseg.data.demo.btcv import write_btcv
from deconvseg.data.demo.busi import write_busi
from deconvseg.data.demo.fives import write_fives
from deconvseg.data.demo.glas import write_glas
from deconvseg.data.demo.isic import write_isic
from deconvseg.data.demo.isles22 import write_isles22
from deconvseg.data.demo.organ import check_organ, write_organ
from deconvseg.errors import InputError, check_choice
from deconvseg.system import write_text

# By the names of the cards; a writer takes the folder, the number of cases with masks, and the seed.
TREES: Mapping[str, Callable[[Path, int, int], None]] = {
    "isles22": write_isles22,
    "brats23": write_brats23,
    "btcv": write_btcv,
    "isic": write_isic,
    "glas": write_glas,
    "fives": write_fives,
    "busi": write_busi,
}

_NOTE = "SYNTHETIC.txt"
_CASES, _CASES_OF_TREES = 30, 10


def make_demo_dataset(
    folder: str | PathLike[str], *, cases: int | None = None, seed: int = 0, like: str | None = None
) -> Path:
    """Write a synthetic dataset to ``folder``, and return the folder.

    Without ``like`` it is in nnU-Net's raw layout with a ``splits.json``. The volumes have about 48×48×32 voxels of
    1×1×1.5 mm, in varying sizes, positions and axis orientations. Label 1 is a bright organ and label 2 the dark
    lesions in it; blobs outside the organ resemble either but are background. A fifth of the cases is the test set.

    ``like`` is the name of a published dataset (`list_demos`). Its files are then named and arranged as by the
    publisher, with simulated images of few voxels that have its channels and labels, and a note ``SYNTHETIC.txt``.

    ``cases`` is the number of cases with a mask, 30 by default, and 10 for ``like``. Each case depends only on ``seed``
    and its number. Raises `InputError` if the folder holds anything other than this dataset with as many cases.

    Example:
        >>> from deconvseg.data import make_demo_dataset, open_dataset
        >>> folder = make_demo_dataset("demo", cases=5)
        >>> sorted(path.name for path in folder.iterdir())
        ['dataset.json', 'imagesTr', 'labelsTr', 'splits.json']
        >>> folder = make_demo_dataset("strokes", like="isles22", cases=2)
        >>> sorted(path.name for path in folder.iterdir())
        ['ISLES-2022', 'SYNTHETIC.txt']

    """
    folder = Path(folder)
    if like is not None:
        check_choice(like, TREES, "like")
    number = cases if cases is not None else _CASES if like is None else _CASES_OF_TREES
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    occupied = folder.is_dir() and any(folder.iterdir())
    if like is None:
        if occupied:
            check_organ(folder, number)
        write_organ(folder, number, seed)
        return folder
    note = f"Synthetic images under the file names of {CARDS[like].title}: {like}, {number} cases, seed {seed}.\n"
    if occupied:
        _check_note(folder, note)
    # Written first, so that a folder whose making was interrupted can be completed.
    write_text(folder / _NOTE, note)
    TREES[like](folder, number, seed)
    return folder


def list_demos() -> tuple[str, ...]:
    """Return the names of the published datasets whose trees `make_demo_dataset` can write.

    Example:
        >>> from deconvseg.data import list_demos
        >>> "isles22" in list_demos()
        True

    """
    return tuple(TREES)


def is_generated(root: Path) -> bool:
    """Whether a dataset lies in a folder that `make_demo_dataset` wrote like a published one."""
    root = root.absolute()
    return any((folder / _NOTE).is_file() for folder in (root, *list(root.parents)[:2]))


def _check_note(folder: Path, note: str) -> None:
    """Raise an `InputError` for a folder that does not hold this generated tree."""
    path = folder / _NOTE
    found = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if found != note:
        _, _, which = found.strip().rstrip(".").rpartition(": ")
        what = f"another synthetic dataset ({which})" if which else "other files"
        raise InputError(f"{folder} holds {what}; give a new folder, or remove it")
