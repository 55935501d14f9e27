"""What of a table differs from the paper's settings, in words."""

from __future__ import annotations

from collections.abc import Sequence

from deconvseg.catalog import CARDS, PRESETS
from deconvseg.data import Dataset, Splits
from deconvseg.experiments.protocols.asking import Table
from deconvseg.experiments.protocols.reading import preset_name
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.splitting import read_folds_of
from deconvseg.reporting.results import Scaled
from deconvseg.units import format_time


def describe_scale(table: Table) -> list[Scaled]:
    """Return the settings of a table that differ from those of its protocol."""
    protocol, scale = table.protocol, table.scale
    found = []
    if table.folds != protocol.folds:
        found.append(Scaled(what="folds", paper=str(protocol.folds), here=str(table.folds)))
    if len(table.seeds) != len(protocol.seeds):
        found.append(Scaled(what="seeds", paper=str(len(protocol.seeds)), here=str(len(table.seeds))))
    if scale.divisor > 1:
        found.append(Scaled(what="widths of the networks", paper="as published", here=f"1/{scale.divisor}, at least 8"))
    for name in table.data:
        size = PRESETS[preset_name(protocol.dataset(name))].patch_size
        if (here := scale.size(size)) != size:
            found.append(Scaled(what=f"patch, {name}", paper=_times(size), here=_times(here)))
    found += describe_choices(table) + _describe_trainings(scale)
    for key, value in (table.asked.values or {}).items():
        found.append(Scaled(what=key, paper="the recipe's", here=str(value)))
    for name, dataset in table.data.items():
        found += _describe_cases(name, dataset, read_folds_of(table.splits(name)))
    return found


def describe_choices(table: Table) -> list[Scaled]:
    """Return the weights and the recipe that options choose in place of the protocol's."""
    given, protocol = table.given, table.protocol
    found = []
    if protocol.weights != given.weights:
        found.append(Scaled(what="evaluated weights", paper=given.weights, here=protocol.weights))
    recipes = {given.recipe or PRESETS[preset_name(protocol.dataset(name))].recipe for name in table.data}
    if protocol.recipe is not None and recipes - {protocol.recipe}:
        found.append(Scaled(what="recipe", paper=", ".join(sorted(recipes)), here=protocol.recipe))
    return found


def _describe_trainings(scale: Scale) -> list[Scaled]:
    found = []
    if scale.rehearses or scale.steps is not None:
        steps = f"{scale.steps} at most" if scale.steps else f"times {scale.share:g}, from 10 to 50"
        found.append(Scaled(what="steps of a training", paper="the recipe's", here=steps))
    if scale.batch is not None:
        found.append(Scaled(what="batch", paper="the preset's", here=str(scale.batch)))
    if scale.seconds is not None:
        found.append(Scaled(what="time of a training", paper="no limit", here=f"at most {format_time(scale.seconds)}"))
    return found


def _describe_cases(name: str, data: Dataset, parts: Sequence[Splits]) -> list[Scaled]:
    card = CARDS.get(name)
    stated = sum(card.counts[part] for part in card.masks) if card is not None else len(data.labelled_names)
    used = {case for part in parts for case in (*part.train, *part.val)}
    test = set(parts[0].test)
    if len(used) + len(test) >= stated:
        return []
    told = f"{len(used)} divided into folds" + (f", {len(test)} for testing" if test else "")
    return [Scaled(what=f"cases, {name}", paper=str(stated), here=told)]


def _times(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
