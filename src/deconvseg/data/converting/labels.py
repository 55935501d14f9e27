"""The labels of a converted dataset: consecutive values from 0, and the values of the source that they stand for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.checks.checking import MOST_LABELS
from deconvseg.data.checks.label_findings import common_labels
from deconvseg.data.dataset import Dataset, Region, list_names
from deconvseg.data.labels.declared import BACKGROUND, IGNORE
from deconvseg.data.labels.encoding import LabelEncoding
from deconvseg.data.types import LabelMap, smallest_integer_dtype
from deconvseg.errors import InputError


@dataclass(frozen=True)
class WrittenLabels:
    """The labels as they are written: the value of each id of ``encoding``, and names by written value.

    Labels in no region of a dataset with regions are background. The ignore label is the largest.
    """

    encoding: LabelEncoding
    written: tuple[int, ...]
    names: Mapping[int, str]
    regions: tuple[Region, ...] | None = None
    ignore: int | None = None
    sources: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def dropped(self) -> dict[int, str]:
        """The names of the labels that no region has, by their values in the source."""
        pairs = zip(self.encoding.values, self.encoding.names, self.written, strict=False)
        return {value: name for value, name, written in pairs if value and not written}

    @property
    def changed(self) -> bool:
        """Whether any label has another value than in the source."""
        return not self.encoding.foreground_only and any(found != (value,) for value, found in self.sources.items())

    def encode(self, label_map: LabelMap, where: str) -> npt.NDArray[Any]:
        """Return the labels as they are written, in the smallest type; `InputError` for an undeclared value."""
        pixels, known = label_map.pixels, {*self.encoding.values, self.encoding.ignore}
        if not self.encoding.foreground_only:
            pixels = self.encoding.align(pixels, white=label_map.white)
            if unknown := sorted({*np.unique(pixels).tolist()} - known):
                listed = ", ".join(f"{v} {n}" for v, n in zip(self.encoding.values, self.encoding.names, strict=True))
                raise InputError(
                    f"{where} has the label {list_names(unknown)}, and the dataset has {listed}; correct the mask, or "
                    "name the label (`labels`)"
                )
        values = np.asarray(self.written)
        encoded: npt.NDArray[Any] = values.astype(smallest_integer_dtype(values))[self.encoding.encode(pixels)]
        return encoded

    def to_json(self) -> dict[str, Any]:
        """Return the written values with their names and the values of the source."""
        names = {**self.names, **({} if self.ignore is None else {self.ignore: IGNORE})}
        sources: dict[int, Any] = {value: list(found) for value, found in self.sources.items()}
        if self.encoding.foreground_only:
            sources[1] = "every other value"
        rows = [{"value": value, "name": names[value], "from": found} for value, found in sources.items()]
        regions = [{"name": r.name, "labels": list(r.labels), "written_as": r.written_as} for r in self.regions or ()]
        return {"labels": rows, **({"regions": regions} if self.regions is not None else {})}


def choose_labels(dataset: Dataset, found: Mapping[str, Collection[int]]) -> WrittenLabels:
    """Return the labels to write: those that the dataset declares, or the values ``found`` in the masks by case.

    Raises `InputError` if the masks have no class, or so many values that they look like instances.
    """
    merged: dict[int, int] = {}
    if dataset.foreground:
        encoding = LabelEncoding.foreground(ignore=dataset.ignore_label, name=dataset.foreground_name)
    elif dataset.label_names is not None:
        names, merged = dataset.label_names, dict(dataset.merged_labels)
        encoding = LabelEncoding.from_values(names, names, ignore=dataset.ignore_label)
    else:
        common = common_labels(dataset, found)
        merged = {value: other for value, other in common.items() if value != other}
        encoding = LabelEncoding.from_values(common.values())
        if len(encoding) == 1:
            raise InputError(f"{dataset.root}: every mask is empty; there is no class to convert")
        if len(encoding) > MOST_LABELS:
            raise InputError(
                f"{dataset.root}: the masks have {len(encoding)} distinct values, which look like instances; "
                "`foreground=True` takes every label above 0 as one class"
            )
    return _number(dataset, encoding, merged)


def _number(dataset: Dataset, encoding: LabelEncoding, merged: Mapping[int, int]) -> WrittenLabels:
    """Give the labels that are kept consecutive values, and the ignore label the value after them."""
    regions = None if dataset.foreground else dataset.regions
    kept = [v for v in encoding.values if regions is None or v == 0 or any(v in region.labels for region in regions)]
    written = {value: place for place, value in enumerate(kept)}
    numbers = tuple(written.get(value, 0) for value in encoding.values)
    ignore = None if encoding.ignore is None else len(kept)
    names = {written[v]: name for v, name in zip(encoding.values, encoding.names, strict=True) if v in written}
    sources: dict[int, list[int]] = {value: [] for value in range(len(kept))}
    for value, number in zip(encoding.values, numbers, strict=True):
        sources[number] += [value, *(other for other, main in merged.items() if main == value)]
    if encoding.ignore is not None:
        sources[len(kept)] = [encoding.ignore, *(other for other, main in merged.items() if main == encoding.ignore)]
    return WrittenLabels(
        encoding=encoding,
        written=(*numbers, *(() if ignore is None else (ignore,))),
        names={**names, 0: BACKGROUND},
        regions=None
        if regions is None
        else tuple(
            replace(region, labels=tuple(written[v] for v in region.labels), written_as=written[region.written_as])
            for region in regions
        ),
        ignore=ignore,
        sources={value: tuple(found) for value, found in sources.items()},
    )
