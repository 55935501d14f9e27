"""Networks measured beside what the papers print about them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deconvseg.catalog import PRESETS, PUBLISHED_TABLES, PublishedRow, PublishedTable
from deconvseg.errors import InputError, check_choice
from deconvseg.models import create_model, list_models
from deconvseg.models.complexity import Complexity, complexity, measure_seconds


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network with its complexity (None where the project lacks it), seconds if timed, and its published row."""

    name: str
    complexity: Complexity | None
    seconds: float | None = None
    published: PublishedRow | None = None


@dataclass(frozen=True)
class MeasuredTable:
    """Networks measured at one image size, with the paper's table whose rows they are."""

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
    """How networks are measured: at which size (None: each table's own), and on which device they are timed, if any."""

    size: tuple[int, ...] | None = None
    device: str | None = None
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter


def compare_with_published(
    presets: Sequence[str] = (), models: Sequence[str] = (), how: Measuring | None = None
) -> list[MeasuredTable]:
    """Measure the networks of the papers' tables, all or those of some presets and registered models.

    Raises :class:`~deconvseg.errors.InputError` for an unknown preset or model, with the nearest ones, where no row is
    left, and for a size that a network refuses.
    """
    _check_names(presets, models)
    how = how or Measuring()
    chosen = []
    for table in PUBLISHED_TABLES:
        rows = [row for row in table.rows if not models or row.model in models]
        if rows and (not presets or set(presets) & set(table.presets)):
            chosen.append((table, rows))
    if not chosen:
        wanted = " or ".join(models) + (f" for {' or '.join(presets)}" if presets else "")
        raise InputError(f"the papers' tables have no {wanted}: give its constructor arguments, as --set in_channels=1")
    done: dict[str, tuple[Complexity | None, float | None]] = {}
    measured: dict[str, list[MeasuredNetwork]] = {table.title: [] for table, _ in chosen}
    for table, row in how.track([(table, row) for table, rows in chosen for row in rows]):
        size = how.size or table.size
        key = repr((row.model, row.preset, sorted(row.network.items()), size))
        if key not in done:
            known = row.model in list_models()
            done[key] = _measure(row.model, row.preset, row.network, size, how.device) if known else (None, None)
        measured[table.title].append(MeasuredNetwork(row.system, *done[key], row))
    return [
        MeasuredTable(table.title, how.size or table.size, tuple(measured[table.title]), table) for table, _ in chosen
    ]


def measure_networks(
    presets: Sequence[str], models: Sequence[str], network: Mapping[str, Any], how: Measuring
) -> list[MeasuredTable]:
    """Measure each of these registered models with each preset (or none) and these constructor arguments.

    Without a size, at that of the preset's patches. Raises :class:`~deconvseg.errors.InputError` as
    :func:`compare_with_published` does, for arguments that do not fit, and where neither gives a size.
    """
    _check_names(presets, models)
    tables = []
    for preset in presets or (None,):
        size = how.size or (PRESETS[preset].patch_size if preset else None)
        if size is None:
            raise InputError("no size is given: add --size, as --size 64x64x64, or --preset")
        names = models or ([PRESETS[preset].model] if preset else ["deconver"])
        rows = [MeasuredNetwork(name, *_measure(name, preset, network, size, how.device)) for name in how.track(names)]
        settings = ", ".join(f"{key}={value}" for key, value in network.items())
        tables.append(MeasuredTable("; ".join(filter(None, (preset, settings))) or "as built", size, tuple(rows)))
    return tables


def _check_names(presets: Sequence[str], models: Sequence[str]) -> None:
    for preset in presets:
        check_choice(preset, PRESETS, "preset")
    for model in models:
        check_choice(model, list_models(), "model")


def _measure(
    model: str, preset: str | None, network: Mapping[str, Any], size: tuple[int, ...], device: str | None
) -> tuple[Complexity, float | None]:
    with torch.device("meta"):
        sketch = create_model(model, preset, **network)
    shape = (1, sketch.in_channels, *size)
    counted = complexity(sketch, shape)
    if device is None:
        return counted, None
    return counted, measure_seconds(create_model(model, preset, **network), shape, device=device)
