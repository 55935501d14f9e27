"""A layout that datasets are converted to: the names of its files, what it can hold, and its ``dataset.json``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.catalog import CARDS
from deconvseg.data.converting.labels import WrittenLabels
from deconvseg.data.dataset import Dataset
from deconvseg.errors import InputError

_UNWANTED = re.compile(r"[^A-Za-z0-9_-]+")
_MOST = {2: 99, 3: 999}  # by digits


@dataclass(frozen=True)
class Contents:
    """What ``dataset.json`` describes: the dataset's name, channels and labels, and the names of the written cases.

    ``testing`` maps each test case to whether it has a mask. ``ending`` is that of all files. ``sheared`` is true if
    the axes of some volume are not perpendicular, which ITK does not read.
    """

    name: str
    source: Dataset
    channels: tuple[str, ...]
    labels: WrittenLabels
    training: Sequence[str]
    testing: Mapping[str, bool]
    ending: str
    sheared: bool

    @property
    def origin(self) -> dict[str, str]:
        """The source, licence and citation of a published dataset; empty for others."""
        card = CARDS.get(self.source.layout)
        if card is None:
            return {}
        return {"description": card.title, "reference": f"{card.citation}; {card.source}", "licence": card.licence}


@dataclass(frozen=True)
class Target:
    """A layout to write.

    ``prefix`` and ``digits`` make the name of its folder: ``Dataset011_NAME``; ``numbered`` means that every dataset
    needs a number, which no other dataset beside it may have. ``joined`` volumes hold all channels in one file.
    ``check`` raises `InputError` for what the layout cannot hold, and ``describe`` returns its dataset.json.
    """

    name: str
    title: str
    prefix: str
    digits: int
    numbered: bool
    joined: bool
    check: Callable[[Dataset, int, WrittenLabels], None]
    describe: Callable[[Contents], dict[str, Any]]

    def image_names(self, case: str, count: int, ending: str) -> list[str]:
        """Return the names of a case's image files: one file, or ``count`` files of a channel each."""
        return [f"{case}{ending}"] if self.joined else [f"{case}_{channel:04d}{ending}" for channel in range(count)]

    def place(self, output: Path, dataset: Dataset, number: int | None, name: str | None) -> Path:
        """Return the folder of the written dataset: ``output`` if it is named as one, else a folder in it.

        Raises `InputError` for a missing number, for one that contradicts the folder's name, for one in use, and for a
        folder in the dataset itself.
        """
        given = re.fullmatch(rf"{self.prefix}(\d{{{self.digits}}})_(.+)", output.name)
        if number is not None and not 0 < number <= _MOST[self.digits]:
            raise InputError(f"`number={number}`: give a number from 1 to {_MOST[self.digits]}")
        if name is not None and (not name or _UNWANTED.search(name)):
            raise InputError(f"`name={name!r}`: give a name of letters, digits, - and _")
        if given is not None:
            for found, asked, argument in ((int(given[1]), number, "number"), (given[2], name, "name")):
                if asked not in (None, found):
                    raise InputError(f"`{argument}={asked!r}` contradicts the folder {output}; leave one of them out")
            folder = output
        else:
            root = dataset.root.resolve()
            name = name or _UNWANTED.sub("_", root.stem if root.is_file() else root.name) or "Dataset"
            free = self._free(output)
            if number is None and self.numbered:
                raise InputError(
                    f"{output} has no number, as datasets of {self.title} have: give one (`number={free}`), or the "
                    f"folder {output / self._folder(free, name)}"
                )
            folder = output if number is None else output / self._folder(number, name)
        if folder.resolve().is_relative_to(dataset.root.resolve()):
            raise InputError(f"{folder} lies in the dataset {dataset.root}; give a folder outside of it")
        self._check_number(folder)
        return folder

    def short_name(self, folder: Path, name: str | None) -> str:
        """Return the name of the dataset without its number."""
        return name or re.sub(rf"^{self.prefix}\d{{{self.digits}}}_", "", folder.name)

    def _folder(self, number: int, name: str) -> str:
        return f"{self.prefix}{number:0{self.digits}d}_{name}"

    def _free(self, output: Path) -> int:
        """Return the smallest number that no dataset in a folder has."""
        names = [path.name for path in output.iterdir()] if output.is_dir() else []
        taken = {name[len(self.prefix) :][: self.digits] for name in names if name.startswith(self.prefix)}
        return next(number for number in range(1, 1000) if f"{number:0{self.digits}d}" not in taken)

    def _check_number(self, folder: Path) -> None:
        """Raise `InputError` if another dataset in the same folder has this number."""
        number = folder.name[: len(self.prefix) + self.digits]
        if not self.numbered or not folder.parent.is_dir():
            return
        for other in sorted(folder.parent.iterdir()):
            if other.name.startswith(f"{number}_") and other.name != folder.name and other.is_dir():
                raise InputError(f"{other} has the number of {folder.name}, which must be its own; choose another")
