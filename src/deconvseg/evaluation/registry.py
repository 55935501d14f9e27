"""The registry of metrics by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import get_args

from deconvseg.errors import InputError, check_choice
from deconvseg.evaluation.definition import Better, Metric, Unit
from deconvseg.evaluation.empty_masks import EMPTY_STATUSES
from deconvseg.system import load_plugins

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
        if value not in (None, "diagonal", "computed") and not (
            isinstance(value, int | float) and math.isfinite(value)
        ):
            raise InputError(
                f"{what}: gives {value!r} for empty masks; give a finite number, 'diagonal', 'computed' or None"
            )
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


def _spell(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
