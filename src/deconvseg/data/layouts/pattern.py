"""Patterns of file names, and all ways in which their wildcards match a path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from deconvseg.data.formats.registry import image_suffix
from deconvseg.errors import InputError

_NAMED = re.compile(r"([^*?/=]+)=(.+)", re.DOTALL)
_PARTS = re.compile(r"\*\*/|\*|\?|[^*?]+")

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Pattern:
    """A pattern of paths in a folder, and the name of its channel or class.

    ``*`` matches any text within a name, ``?`` one character, ``**/`` any number of folders; other characters match
    themselves. A pattern that ends in ``*`` matches any image suffix.
    """

    text: str
    name: str | None = None

    @classmethod
    def parse(cls, given: str, argument: str) -> Pattern:
        """Parse ``PATTERN`` or ``NAME=PATTERN``; `InputError` for a pattern that cannot distinguish cases.

        ``argument`` is the name of the option, for the error message.
        """
        found = _NAMED.fullmatch(given.strip())
        name, text = (found[1].strip(), found[2].strip()) if found else (None, given.strip())
        text = text.replace("\\", "/").removeprefix("./")
        where = f"`{argument}={given!r}`"
        if not text or (name is not None and not name):
            raise InputError(f"{where}: give a pattern of file names, such as '*.png'")
        if text.startswith("/") or ".." in text.split("/") or re.match(r"[A-Za-z]:", text):
            raise InputError(
                f"{where}: a pattern is relative to the dataset's folder; give the parent folder of all files"
            )
        if any("**" in part and part != "**" for part in text.split("/")) or text.endswith(("**", "/")):
            raise InputError(f"{where}: ** matches folders, such as in '**/*.png'")
        if not re.search(r"[*?]", text):
            raise InputError(f"{where}: has no *, which matches the names of cases, such as in '*_t1.nii.gz'")
        return cls(text, name)

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        return tuple(_PARTS.findall(self.text))

    @property
    def wildcards(self) -> int:
        """The number of wildcards."""
        return sum(part in ("*", "?", "**/") for part in self._parts)

    def runs_on(self, count: int) -> bool:
        """Return whether nothing separates the texts of the first ``count`` wildcards from that of the next one."""
        places = [place for place, part in enumerate(self._parts) if part in ("*", "?", "**/")]
        return (
            0 < count < len(places)
            and places[count] == places[count - 1] + 1
            and self._parts[places[count - 1]] != "**/"
        )

    @property
    def literal(self) -> int:
        """The number of literal characters: the pattern with the most is the most specific one."""
        return sum(len(part) for part in self._parts if part not in ("*", "?", "**/"))

    @cached_property
    def _quick(self) -> re.Pattern[str]:
        forms = {"*": "[^/]*", "?": "[^/]", "**/": "(?:[^/]+/)*"}
        return re.compile("".join(forms.get(part) or re.escape(part) for part in self._parts), re.DOTALL)

    def matches(self, path: str) -> bool:
        """Return whether the pattern matches a path with slashes, relative to the folder."""
        return self._quick.fullmatch(self._matched(path)) is not None

    def spans(self, path: str) -> Iterator[Spans]:
        """Yield the positions of the wildcards for every way in which the pattern matches, shortest texts first."""
        if self.matches(path):
            yield from _spans(self._parts, self._matched(path), 0)

    def texts(self, path: str) -> Iterator[tuple[str, ...]]:
        """Yield the texts of the wildcards for every way in which the pattern matches."""
        for spans in self.spans(path):
            yield tuple(path[start:end] for start, end in spans)

    def _matched(self, path: str) -> str:
        return path[: len(path) - len(image_suffix(path))] if self.text.endswith("*") else path


def _spans(parts: tuple[str, ...], path: str, start: int) -> Iterator[Spans]:
    if not parts:
        if start == len(path):
            yield ()
        return
    part, rest = parts[0], parts[1:]
    if part not in ("*", "?", "**/"):
        if path.startswith(part, start):
            yield from _spans(rest, path, start + len(part))
        return
    slash = path.find("/", start)
    end = len(path) if slash < 0 else slash
    if part == "**/":
        ends = [start, *(place + 1 for place in range(start, len(path)) if path[place] == "/")]
    else:
        ends = list(range(start, end + 1)) if part == "*" else [start + 1] * (start < end)
    for place in ends:
        for others in _spans(rest, path, place):
            yield ((start, place), *others)
