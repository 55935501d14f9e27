"""The result of a dataset check, as data, JSON and text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deconvseg.data.dataset import Exclusion, Problem, list_names
from deconvseg.text import number_of

_MOST_LINES = 32
_MOST_ALIKE = 8


@dataclass(frozen=True)
class Spread:
    """The smallest, median and largest value per axis; as text, a single value if they are equal."""

    minimum: tuple[float, ...]
    median: tuple[float, ...]
    maximum: tuple[float, ...]

    @classmethod
    def of(cls, rows: Sequence[tuple[float, ...]]) -> Spread | None:
        """Return the spread over the rows of the most frequent length, or None if there are no rows."""
        if not rows:
            return None
        usual = Counter(map(len, rows)).most_common(1)[0][0]
        values = np.asarray([row for row in rows if len(row) == usual], dtype=np.float64)
        statistics = values.min(axis=0), np.median(values, axis=0), values.max(axis=0)
        return cls(*(tuple(float(value) for value in statistic) for statistic in statistics))

    @property
    def are_ones(self) -> bool:
        """Return whether every value is 1."""
        return {*self.minimum, *self.maximum} == {1.0}

    def __str__(self) -> str:
        texts = ["×".join(f"{value:.4g}" for value in row) for row in vars(self).values()]
        return texts[0] if len(set(texts)) == 1 else f"{texts[0]} … {texts[1]} … {texts[2]}"

    def to_json(self) -> dict[str, list[float]]:
        """Return the smallest, median and largest values as lists."""
        return {name: list(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class LabelFrequency:
    """How often a label value occurs: the number of its voxels, and of the cases that have any."""

    name: str
    voxels: int
    cases: int


@dataclass(frozen=True)
class DatasetReport:
    """The result of `check_dataset`; ``shapes`` and ``spacings`` (mm) are None if no case could be read; ``readers``
    has the names of the files that each reader takes, ``excluded`` the cases that are left out on purpose, ``unused``
    those that the layout keeps out of all splits, ``colours`` those that are declared, by the name of the class.
    """

    root: str
    layout: str
    cases: int
    labelled: int
    channels: tuple[str, ...]
    shapes: Spread | None
    spacings: Spread | None
    labels: Mapping[int, LabelFrequency]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    splits: Mapping[str, int] | None = None
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    unused: tuple[str, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems of severity "error"."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def spacing_unit(self) -> str:
        """The unit of `spacings`: "mm", or "pixel" for 2D images in formats without a pixel size."""
        without = self.spacings is not None and len(self.spacings.median) == 2 and self.spacings.are_ones
        return "pixel" if without else "mm"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain dictionaries, with label values as strings."""
        return {
            "root": self.root,
            "layout": self.layout,
            "readers": {reader: len(files) for reader, files in self.readers.items()},
            "cases": self.cases,
            "labelled": self.labelled,
            "channels": list(self.channels),
            "shapes": None if self.shapes is None else self.shapes.to_json(),
            "spacings": None if self.spacings is None else self.spacings.to_json(),
            "spacing_unit": self.spacing_unit,
            "labels": {str(value): vars(frequency) for value, frequency in self.labels.items()},
            "notes": list(self.notes),
            "excluded": {exclusion.case: exclusion.reason for exclusion in self.excluded},
            "unused": list(self.unused),
            "colours": dict(self.colours),
            "splits": None if self.splits is None else dict(self.splits),
            "problems": [problem.to_json() for problem in self.problems],
        }

    def to_text(self) -> str:
        """Return the report as lines for a terminal: the dataset, a line per label, a line per problem.

        If more than eight files have the same problem, the first eight have a line each and the others are counted.
        """
        unlabelled = f", {self.cases - self.labelled} without a mask" if self.labelled < self.cases else ""
        lines = [
            f"{self.root}: {number_of(self.cases, 'case')}{unlabelled}, layout {self.layout}",
            f"channels  {', '.join(self.channels)}",
            f"shapes    {self.shapes or 'none could be read'}",
            f"spacings  {self._describe_spacings()}",
            f"read by   {self._describe_readers()}",
        ]
        if self.splits is not None:
            lines.append("splits    " + ", ".join(f"{count} {name}" for name, count in self.splits.items()))
        if self.unused:
            lines.append(f"unused    {number_of(len(self.unused), 'case')} in no split: {', '.join(self.unused)}")
        if self.excluded:
            lines.append(f"left out  {len(self.excluded)} more, as asked: {list_names(self.excluded, limit=8)}")
        lines += self._label_lines()
        lines += [f"note: {note}" for note in self.notes]
        lines += self._problem_lines()
        return "\n".join(lines if self.problems else [*lines, "no problems"])

    def _describe_readers(self) -> str:
        """Describe how many files each reader reads, with examples for all readers but the first."""
        ordered = sorted(self.readers.items(), key=lambda item: -len(item[1]))
        texts = [
            f"{reader} {len(files)}{f' ({list_names(dict.fromkeys(files), limit=4)})' if number else ''}"
            for number, (reader, files) in enumerate(ordered)
        ]
        return ", ".join(texts) or "no reader"

    def _describe_spacings(self) -> str:
        if self.spacings is None:
            return "none could be read"
        return f"{self.spacings} mm" if self.spacing_unit == "mm" else "pixels (the files give no size of a pixel)"

    def _problem_lines(self) -> list[str]:
        alike: dict[tuple[str, str], list[str]] = {}
        for problem in self.problems:
            alike.setdefault((problem.severity, problem.message), []).append(problem.file)
        lines = []
        for (severity, message), files in alike.items():
            lines += [f"{severity}: {file}: {message}" for file in files[:_MOST_ALIKE]]
            if len(files) > _MOST_ALIKE:
                lines.append(f"{severity}: {len(files) - _MOST_ALIKE} more files (the last: {files[-1]}): {message}")
        return lines

    def _name(self, value: int, frequency: LabelFrequency) -> str:
        if frequency.name == f"label {value}":
            return f"(no name; give `labels={value}=NAME`)"
        colour = self.colours.get(frequency.name)
        return frequency.name if colour is None else f"{frequency.name} {colour}"

    def _label_lines(self) -> list[str]:
        voxels = max(sum(frequency.voxels for frequency in self.labels.values()), 1)
        lines = [
            f"label {value:<4d}{self._name(value, frequency)}: {100 * frequency.voxels / voxels:.3g} % of the voxels, "
            f"in {frequency.cases} of {number_of(self.labelled, 'mask')}"
            for value, frequency in self.labels.items()
        ]
        hidden = len(lines) - _MOST_LINES
        return lines if hidden <= 0 else [*lines[:_MOST_LINES], f"… and {hidden} more labels"]
