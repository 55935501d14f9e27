"""Measured networks next to their published figures."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.catalog import FURTHER_TABLES, PRESETS, PUBLISHED_TABLES, PublishedRow, PublishedTable
from deconvseg.errors import InputError, MissingPackageError, check_choice
from deconvseg.models import Network, create_model, current_arguments, list_arguments, list_models
from deconvseg.models.complexity import Complexity, complexity, measure_seconds
from deconvseg.progress import SILENT, Console, each


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network with its complexity (None if the project lacks the network), seconds if timed, and published row."""

    name: str
    complexity: Complexity | None
    seconds: float | None = None
    published: PublishedRow | None = None


@dataclass(frozen=True)
class MeasuredTable:
    """Networks measured at one image size, with the table of the paper that lists them."""

    title: str
    size: tuple[int, ...]
    rows: tuple[MeasuredNetwork, ...]
    published: PublishedTable | None = None

    @property
    def same_size(self) -> bool:
        """Whether the published costs hold for this size."""
        return self.published is not None and self.published.size == self.size


@dataclass(frozen=True)
class Measuring:
    """How networks are measured: at which size (None: each table's own), and on which device they are timed, if any.

    The ``console`` shows the progress; ``note`` is called with a line for each requested network that is left out.
    """

    size: tuple[int, ...] | None = None
    device: str | None = None
    console: Console = SILENT
    note: Callable[[str], object] = warnings.warn


def compare_with_published(
    presets: Sequence[str] = (), models: Sequence[str] = (), how: Measuring | None = None
) -> list[MeasuredTable]:
    """Measure the networks of the papers' tables: all of them, or those of some presets and registered models.

    If a size is given, tables of images with another number of axes are left out. Raises
    :class:`~deconvseg.errors.InputError` for an unknown preset or model, naming the nearest ones, if no row is left,
    and for a size that a network refuses.
    """
    _check_names(presets, models)
    how = how or Measuring()
    chosen = _choose(presets, models, how)
    done: dict[str, tuple[Complexity | None, float | None]] = {}
    measured: dict[str, list[MeasuredNetwork]] = {table.title: [] for table, _ in chosen}
    for table, row in each(
        [(table, row) for table, rows in chosen for row in rows], "measuring", how.console, lambda one: one[1].system
    ):
        size = how.size or table.size
        key = repr((row.model, row.preset, sorted(row.network.items()), size))
        if key not in done:
            done[key] = _measure_row(row, size, how)
        measured[table.title].append(MeasuredNetwork(row.system, *done[key], row))
    return [
        MeasuredTable(table.title, how.size or table.size, tuple(measured[table.title]), table) for table, _ in chosen
    ]


def _choose(
    presets: Sequence[str], models: Sequence[str], how: Measuring
) -> list[tuple[PublishedTable, list[PublishedRow]]]:
    """Return the tables and rows of some presets and models whose number of axes fits the size."""
    chosen = []
    for table in (*PUBLISHED_TABLES, *FURTHER_TABLES):
        rows = [row for row in table.rows if not models or row.model in models]
        if rows and (not presets or set(presets) & set(table.presets)):
            chosen.append((table, rows))
    wanted = (" or ".join(models) or "table") + (f" for {' or '.join(presets)}" if presets else "")
    if not chosen:
        raise InputError(
            f"the papers' tables have no {wanted}: give constructor arguments, such as `values={{'in_channels': 1}}`"
        )
    fitting = [(table, rows) for table, rows in chosen if how.size is None or len(how.size) == len(table.size)]
    if not fitting:
        axes = " or ".join(map(str, sorted({len(table.size) for table, _ in chosen})))
        raise InputError(
            f"size {_times(how.size or ())}: the papers have no {wanted} with that number of axes; give {axes} lengths"
        )
    left_out = [table.title for table, rows in chosen if (table, rows) not in fitting]
    if left_out:
        how.note(f"left out, because their images do not have {len(how.size or ())} axes: {'; '.join(left_out)}")
    return fitting


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def measure_networks(
    presets: Sequence[str], models: Sequence[str], values: Mapping[str, Any], how: Measuring
) -> list[MeasuredTable]:
    """Measure each of these registered models with each preset (or none) and these constructor arguments (``values``).

    If no models are given, measures all models of the preset that accept the arguments, or ``deconver``. The default
    size is that of the preset's patches. Without a preset, the default is one input channel and two output channels.
    Raises the errors of :func:`compare_with_published`, and :class:`~deconvseg.errors.InputError` for arguments that do
    not fit, or if neither a size nor a preset is given.
    """
    _check_names(presets, models)
    tables = []
    for preset in presets or (None,):
        size = how.size or (PRESETS[preset].patch_size if preset else None)
        if size is None:
            raise InputError("no size is given: add `size`, such as `size=64x64x64`, or `presets`")
        names = models or _takers(preset, values, how)
        rows = [
            MeasuredNetwork(
                name, *_measure(create_model(name, preset, **_for_axes(name, preset, values, size)), size, how.device)
            )
            for name in each(names, "measuring", how.console, str)
        ]
        settings = ", ".join(f"{key}={value}" for key, value in values.items())
        tables.append(MeasuredTable("; ".join(filter(None, (preset, settings))), size, tuple(rows)))
    return tables


def _for_axes(name: str, preset: str | None, network: Mapping[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """Add the number of axes of the size and one channel to two, if neither preset nor arguments give them."""
    ends = {"in_channels": 1, "out_channels": 2, "spatial_dims": len(size)} if preset is None else {}
    known = list_arguments(name)
    return {**{key: value for key, value in ends.items() if key in known}, **network}


def _takers(preset: str | None, network: Mapping[str, Any], how: Measuring) -> list[str]:
    """Return the models of a preset that accept all the arguments."""
    if preset is None:
        return ["deconver"]
    takers = [
        name
        for name in PRESETS[preset].networks
        if current_arguments(name, network).keys() <= set(list_arguments(name))
    ]
    others = [name for name in PRESETS[preset].networks if name not in takers]
    if not takers:
        for argument in network:
            known = {name for other in others for name in list_arguments(other)}
            check_choice(argument, sorted(known), f"preset {preset}: argument")
        raise InputError(f"preset {preset}: none of its {', '.join(others)} takes {' and '.join(network)}")
    if others:
        how.note(f"left out, because they do not accept {', '.join(network)}: {', '.join(others)}")
    return takers


def _measure_row(row: PublishedRow, size: tuple[int, ...], how: Measuring) -> tuple[Complexity | None, float | None]:
    """Measure a row; None if its network has another fixed size or needs a missing package."""
    try:
        built = create_model(row.model, row.preset, **row.network)
    except MissingPackageError as error:
        how.note(f"left out: {row.system} ({error})")
        return None, None
    if built.fixed_size not in (None, size):
        how.note(f"left out, because it accepts only {_times(built.fixed_size or ())}: {row.system}")
        return None, None
    return _measure(built, size, how.device)


def _check_names(presets: Sequence[str], models: Sequence[str]) -> None:
    for preset in presets:
        check_choice(preset, PRESETS, "preset")
    for model in models:
        check_choice(model, list_models(), "model")


def _measure(network: Network, size: tuple[int, ...], device: str | None) -> tuple[Complexity, float | None]:
    shape = (1, network.in_channels, *size)
    return complexity(network, shape), None if device is None else measure_seconds(network, shape, device=device)
