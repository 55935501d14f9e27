"""Definition of metrics, their values for empty masks, and the registry of metrics by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import index
from typing import Any, Literal, cast, get_args

from deconvseg.errors import DeconvsegError, InputError, check_choice
from deconvseg.evaluation.pair import MaskPair, Status
from deconvseg.system import load_plugins, naming

Better = Literal["higher", "lower", "zero"]
Unit = Literal["", "length"]
Policy = Literal["diagonal", "brats", "drop"]
# A number, the image's diagonal, or the result of the metric's function; None means that the case is dropped.
EmptyValue = float | Literal["diagonal", "computed"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
# The diagonal of BraTS images (240 x 240 x 155 voxels of 1 mm), which is their HD95 of a missed or spurious region.
BRATS_PENALTY = math.hypot(240, 240, 155)
EMPTY_STATUSES: tuple[Status, ...] = ("both empty", "missed", "spurious")
# The arguments of an evaluation that a metric may depend on.
_OPTIONS = ("tolerance", "lesion_overlap", "lesion_sizes")
# Installed packages add metrics as entry points of this group.
_PLUGINS = "deconvseg.metrics"
# Columns of the files that are not metrics, and suffixes of the columns that tables add to those of a metric.
TAKEN = {
    *("all", "case", "label", "name", "status", "class", "counted", "cases", "missed", "spurious", "both_empty"),
    *("classes", "absent_classes", "with_truth"),
    *("tp", "fp", "fn", "tn", "n_truth", "n_prediction", "volume_truth", "volume_prediction", "volume_difference"),
}
_ENDINGS = ("_with_truth", "_dropped")


@dataclass(frozen=True)
class EmptyCases:
    """Values of a metric for empty masks: ``both``, only the prediction (``missed``), only the truth (``spurious``).

    Each value is a number, "diagonal" (the image's diagonal; 373.13 under the policy "brats") or "computed" (by the
    metric's function). ``undefined`` lists the cases in which the formula has no value and MONAI gives NaN: the policy
    "drop" excludes these from means.

    Example:
        >>> from deconvseg.evaluation import EmptyCases
        >>> empty = EmptyCases(both=0.0, missed="diagonal", spurious="diagonal", undefined=("missed", "spurious"))
        >>> empty.value("both empty", "diagonal"), empty.value("missed", "diagonal")
        (0.0, 'diagonal')

    """

    both: EmptyValue
    missed: EmptyValue
    spurious: EmptyValue
    undefined: tuple[Status, ...] = ()

    def value(self, status: Status, policy: Policy) -> EmptyValue | None:
        """Return the value for a status under a policy; None if it is dropped."""
        if policy == "drop" and status in self.undefined:
            return None
        value = {"both empty": self.both, "missed": self.missed, "spurious": self.spurious}[status]
        return BRATS_PENALTY if policy == "brats" and value == "diagonal" else value


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
    dropped. ``counts`` are the further columns of the metric.
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

    def head(self, unit: str) -> str:
        """Return the column heading, with ``unit`` as the unit of distances."""
        return f"{self.title} {unit}" if self.unit == "length" else self.title

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
        return cls(**{**{key: row[key] for key in (*kinds, "at_tolerance", "empty")}, "counts": counts})


@dataclass(frozen=True)
class Metric:
    """A metric of two masks, with its description for tables, files and reports.

    ``key`` is its name in files and ``title`` its name in tables; either selects it. ``function`` returns its value for
    a :class:`MaskPair` without empty masks, and ``empty`` has the values of other pairs. ``unit`` is "length" for a
    distance and "" for a plain number; ``digits`` is the number of decimals; ``better`` is the direction of better
    values: "higher", "lower" or near "zero". ``meaning`` is one sentence for readers of a report. ``options`` are the
    arguments of
    :func:`~deconvseg.evaluation.evaluate` that it depends on.

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
        )


_METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> Metric:
    """Register a metric for ``evaluate(metrics=...)``, by its key and title, and return it.

    Raises :class:`InputError` if the key or title is in use, the key has characters other than lower-case letters,
    digits and underscores, another field has an invalid value, or the value for empty masks is a length but the metric
    is not.

    Example:
        >>> import deconvseg
        >>> from deconvseg.evaluation import EmptyCases, Metric, register_metric, unregister_metric
        >>> size = register_metric(
        ...     Metric("size", "Size", lambda pair: pair.prediction.sum() / pair.truth.sum(), EmptyCases(1.0, 0.0, 2.0))
        ... )
        >>> scores = deconvseg.evaluate("TRUTH", "MASKS", metrics="dice,size")
        >>> 0.5 < scores.cases[0].metrics[255]["size"] < 2
        True
        >>> unregister_metric("size")

    """
    _check_entry(metric)
    names = {metric.key, _spell(metric.title)}
    known = {name for other in _METRICS.values() for name in (other.key, _spell(other.title))}
    if taken := sorted(names & (TAKEN | known)):
        raise InputError(f"metric {metric.key!r}: the name {taken[0]!r} is taken; choose another key and title")
    _METRICS[metric.key] = metric
    return metric


def _check_entry(metric: Metric) -> None:
    """Raise an :class:`InputError` for a metric that tables and files cannot represent."""
    what = f"metric {metric.key!r}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", metric.key) or metric.key.endswith(_ENDINGS):
        raise InputError(
            f"{what}: a key has lower-case letters, digits and underscores, and does not end in {' or '.join(_ENDINGS)}"
        )
    if not metric.title.strip() or "," in metric.title:
        raise InputError(f"{what}: the title {metric.title!r} cannot be named in a list; give one without commas")
    for name, kind in {"unit": Unit, "better": Better}.items():
        if (found := getattr(metric, name)) not in get_args(kind):
            raise InputError(f"{what}: {name} is {found!r}; give one of {', '.join(map(repr, get_args(kind)))}")
    if metric.digits not in range(10):
        raise InputError(f"{what}: has {metric.digits} digits; give 0 to 9")
    empty = metric.empty
    given: tuple[object, ...] = empty.both, empty.missed, empty.spurious
    for value in given:
        if value not in ("diagonal", "computed") and not (isinstance(value, int | float) and math.isfinite(value)):
            raise InputError(f"{what}: gives {value!r} for empty masks; give a finite number, 'diagonal' or 'computed'")
        if value == "diagonal" and metric.unit != "length":
            raise InputError(f"{what}: the image's diagonal is a length, and the metric's unit is none")
    for status in empty.undefined:
        check_choice(status, EMPTY_STATUSES, f"{what}: the undefined case")
    for option in metric.options:
        check_choice(option, _OPTIONS, f"{what}: the option")


def unregister_metric(key: str) -> None:
    """Remove a registered metric; :class:`InputError` for an unknown key.

    Example:
        >>> from deconvseg.evaluation import EmptyCases, Metric, list_metrics, register_metric, unregister_metric
        >>> metric = register_metric(Metric("mine", "Mine", lambda pair: 1.0, EmptyCases(1.0, 0.0, 0.0)))
        >>> unregister_metric("mine")
        >>> metric in list_metrics()
        False

    """
    check_choice(key, _METRICS, "metric")
    del _METRICS[key]


def list_metrics() -> tuple[Metric, ...]:
    """Return all registered metrics, including those of installed packages, in the order of tables.

    Example:
        >>> from deconvseg.evaluation import list_metrics
        >>> [metric.key for metric in list_metrics()][:3]
        ['dsc', 'iou', 'hd95']

    """
    load_plugins(_PLUGINS)
    return tuple(_METRICS.values())


def find_metric(key: str) -> Metric | None:
    """Return the metric with a key, or None if it is not registered (as in files of another process)."""
    load_plugins(_PLUGINS)
    return _METRICS.get(key)


def choose_metrics(names: str | Sequence[str] | None, default: Iterable[str]) -> tuple[Metric, ...]:
    """Return metrics by name (keys or titles; a string is split at commas), in the order of tables.

    "all" selects all registered metrics, None those of ``default``. Raises :class:`InputError` for an unknown name,
    with similar names, and for an empty selection.
    """
    given = names.split(",") if isinstance(names, str) else list(default if names is None else names)
    asked = [_spell(str(name)) for name in given if str(name).strip()]
    registered = list_metrics()
    choices = [*(_spell(metric.title) for metric in registered), "all"]
    if not asked:
        raise InputError(f"no metric is named: choose from {', '.join(choices)}")
    known = {name: metric.key for metric in registered for name in (metric.key, _spell(metric.title))}
    for name in asked:
        if name not in known:
            check_choice(name, choices, "metric")
    chosen = {known.get(name) for name in asked}
    return tuple(metric for metric in registered if "all" in asked or metric.key in chosen)


def check_policy(policy: str) -> Policy:
    """Return the policy for empty masks; :class:`InputError` for an unknown name."""
    check_choice(policy, POLICIES, "policy for empty masks")
    return cast(Policy, policy)


def describe_empty(metrics: Sequence[MetricInfo]) -> dict[str, str]:
    """Return a sentence for each status of empty masks with the value of each metric."""
    words = {None: "dropped", "diagonal": "the diagonal of the image", "computed": "as computed"}

    def show(value: EmptyValue | None) -> str:
        return words[value] if value is None or isinstance(value, str) else f"{value:.6g}"

    heads = {
        "both empty": "",
        "missed": "the truth is there, the prediction is empty: ",
        "spurious": "the truth is empty, the prediction is not: ",
    }
    return {
        status: head + ", ".join(f"{metric.title} {show(metric.empty.get(status))}" for metric in metrics)
        for status, head in heads.items()
    }


def _spell(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
