"""The definition of a metric: its function, its description for tables and files, and its counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any, Literal

from deconvseg.errors import DeconvsegError
from deconvseg.evaluation.empty_masks import EMPTY_STATUSES, EmptyCases, EmptyValue, Policy
from deconvseg.evaluation.pair import MaskPair
from deconvseg.system import naming

Better = Literal["higher", "lower", "zero"]
Unit = Literal["", "length"]


@dataclass(frozen=True)
class Count:
    """A column of integers of a metric that is summed over cases, with its group and name.

    Example:
        >>> from deconvseg.evaluation import Count, list_metrics
        >>> lesions = next(metric for metric in list_metrics() if metric.tally is not None)
        >>> Count("n_found", "lesions", "found").column
        'n_found'

    """

    column: str
    group: str
    name: str


@dataclass(frozen=True)
class MetricInfo:
    """Description of a metric for tables and files, as recorded in ``metrics.json``.

    ``empty`` maps each status of empty masks to the value under the policy of the evaluation, None if such cases are
    dropped. ``counts`` are the further columns of the metric, ``beside`` the key of the metric with the same values
    where it has any.
    """

    key: str
    title: str
    unit: Unit
    digits: int
    better: Better
    meaning: str
    at_tolerance: bool
    empty: Mapping[str, EmptyValue | None]
    counts: tuple[Count, ...] = ()
    beside: str = ""

    @property
    def drops(self) -> bool:
        """Whether the metric has no value in some cases."""
        return None in self.empty.values()

    def head(self, unit: str) -> str:
        """Return the column heading, with ``unit`` as the unit of distances."""
        return f"{self.title} ({unit})" if self.unit == "length" else self.title

    def to_json(self) -> dict[str, Any]:
        """Return plain types, which :meth:`parse` reads."""
        return {**asdict(self), "counts": [asdict(count) for count in self.counts]}

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> MetricInfo:
        """Parse the output of :meth:`to_json`; `KeyError`, `TypeError` or `ValueError` for anything else."""
        kinds = {"key": str, "title": str, "unit": str, "digits": int, "better": str, "meaning": str}
        for key, kind in {**kinds, "at_tolerance": bool, "empty": dict, "counts": list}.items():
            if not isinstance(row[key], kind):
                raise TypeError(f"{key} of a metric is {row[key]!r}")
        if not 0 <= row["digits"] < 10:
            raise ValueError(f"digits of a metric are {row['digits']}")
        for value in (row["empty"][status] for status in EMPTY_STATUSES):
            if not (value in (None, "diagonal", "computed") or isinstance(value, int | float)):
                raise TypeError(f"a metric gives {value!r} for empty masks")
        counts = tuple(Count(*(str(entry[key]) for key in ("column", "group", "name"))) for entry in row["counts"])
        known = {key: row[key] for key in (*kinds, "at_tolerance", "empty")}
        return cls(**known, counts=counts, beside=str(row.get("beside", "")))


@dataclass(frozen=True)
class Metric:
    """A metric of two masks, with its description for tables, files and reports.

    ``key`` is its name in files and ``title`` its name in tables; either selects it. ``function`` returns its value for
    a :class:`MaskPair` without empty masks, and ``empty`` has the values of other pairs. ``unit`` is "length" for a
    distance and "" for a plain number; ``digits`` is the number of decimals; ``better`` is the direction of better
    values: "higher", "lower" or near "zero". ``meaning`` is one sentence for readers of a report. ``options`` are the
    arguments of :func:`~deconvseg.evaluation.evaluate` that it depends on.

    ``beside`` is the key of a metric with the same values where this one has any: the default tables show it only where
    cases were dropped.

    ``tally`` returns integers that are summed over cases, with the same columns for every pair, also with empty masks.
    ``pooled`` computes the metric from such sums by name, or None if it has no value.

    Example:
        >>> from deconvseg.evaluation import EmptyCases, Metric
        >>> volume = Metric(
        ...     key="rvd",
        ...     title="RVD",
        ...     function=lambda pair: (pair.prediction.sum() - pair.truth.sum()) / pair.truth.sum(),
        ...     empty=EmptyCases(both=0.0, missed=-1.0, spurious=1.0),
        ...     better="zero",
        ...     meaning="RVD is the difference of the volumes, prediction minus truth, over that of the truth.",
        ... )
        >>> volume.key
        'rvd'

    """

    key: str
    title: str
    function: Callable[[MaskPair], float]
    empty: EmptyCases
    digits: int = 3
    unit: Unit = ""
    better: Better = "higher"
    meaning: str = ""
    options: tuple[str, ...] = ()
    beside: str = ""
    tally: Callable[[MaskPair], Mapping[Count, int]] | None = None
    pooled: Callable[[Mapping[str, int]], float | None] | None = None

    def measure(self, pair: MaskPair, policy: Policy) -> float | None:
        """Return the value of a pair, or None if the policy drops it; :class:`DeconvsegError` if it is not finite."""
        value = "computed" if pair.status == "ok" else self.empty.value(pair.status, policy)
        if value is None:
            return None
        if value == "computed":
            with naming(f"{self.title}: the metric's function"):
                return self._finite(self.function(pair))
        return pair.diagonal if value == "diagonal" else float(value)

    def count(self, pair: MaskPair) -> dict[Count, int]:
        """Return the integers that are summed over cases; :class:`DeconvsegError` if ``tally`` returns others."""
        with naming(f"{self.title}: the metric's tally"):
            return {count: index(number) for count, number in self.tally(pair).items()} if self.tally else {}

    def pool(self, sums: Mapping[str, int]) -> float | None:
        """Return the metric of summed counts, or None without a value; :class:`DeconvsegError` if it is not finite."""
        with naming(f"{self.title}: the metric's pooled"):
            found = self.pooled(sums) if self.pooled else None
            return None if found is None else self._finite(found)

    def _finite(self, value: Any) -> float:
        if not math.isfinite(value):
            raise DeconvsegError(
                f"{self.title} is {value}, which is not a finite number: fix the function of the metric"
            )
        return float(value)

    def describe(self, policy: Policy, pair: MaskPair) -> MetricInfo:
        """Return the description for files under a policy; ``pair`` is any pair, for the columns of its counts."""
        return MetricInfo(
            key=self.key,
            title=self.title,
            unit=self.unit,
            digits=self.digits,
            better=self.better,
            meaning=self.meaning,
            at_tolerance="tolerance" in self.options,
            empty={status: self.empty.value(status, policy) for status in EMPTY_STATUSES},
            counts=tuple(self.count(pair)),
            beside=self.beside,
        )
