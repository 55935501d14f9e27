"""Match the channels and classes of a plan with those of a dataset or of another plan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from deconvseg.data import Dataset, is_rgb, read_header
from deconvseg.errors import InputError
from deconvseg.planning.parts import LabelPlan
from deconvseg.planning.schema import Plan

# Default names for undeclared channels: they do not identify a channel.
_UNTOLD_CHANNEL = re.compile(r"(?:image|grey|channel)?[ _]?\d*")
_UNTOLD_LABEL = re.compile(r"label -?\d+|background|foreground")


def match_plan(plan: Plan, dataset: Dataset) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan adapted to a dataset, and a line about each change or note.

    Channels and labels are matched by name: if the names agree, the plan takes the order of the channels and the values
    of the labels from the dataset. Raises :class:`~deconvseg.errors.InputError`, which names both sides, if the names,
    the regions or the number of dimensions differ.

    Example:
        >>> from deconvseg.data import open_dataset
        >>> from deconvseg.planning import match_plan, read_plan
        >>> plan, notes = match_plan(read_plan("RUN/plan.json"), open_dataset("DATASET"))
        >>> plan.labels.values
        (0, 255)

    """
    _check_dims(plan, dataset)
    plan, notes = _match_channels(plan, dataset)
    if dataset.label_names is not None:
        plan, told = _match_labels(plan, dataset)
        notes += told
        _check_regions(plan, dataset)
    return _describe_dataset(plan, dataset), tuple(notes)


def _describe_dataset(plan: Plan, dataset: Dataset) -> Plan:
    """Return the plan with the dataset's colours, merged label values and excluded cases."""
    update: dict[str, Any] = {
        "colours": {**plan.colours, **dataset.label_colours},
        "excluded": {exclusion.case: exclusion.reason for exclusion in dataset.excluded},
    }
    merged = {value: other for value, other in dataset.merged_labels.items() if other in plan.labels.values}
    if merged != plan.labels.merged and not plan.labels.foreground_only:
        update["labels"] = plan.labels.model_copy(update={"merged": merged})
    return (
        plan if all(getattr(plan, name) == value for name, value in update.items()) else plan.model_copy(update=update)
    )


def channel_order(given: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Return the index in ``given`` of each of the channels ``wanted``, by name, ignoring case.

    If one side has only default names, the order is kept. None means that the names differ.
    """
    have, need = ([name.strip().lower() for name in names] for names in (given, wanted))
    if len(have) != len(need):
        return None
    if have == need or _is_untold(have) or _is_untold(need) or (is_rgb(have) and is_rgb(need)):
        return tuple(range(len(need)))
    if len(set(have)) == len(have) and sorted(have) == sorted(need):
        return tuple(have.index(name) for name in need)
    return None


def check_pretrained(plan: Plan, other: Plan, where: str | PathLike[str]) -> tuple[str, ...]:
    """Return notes about a training by ``plan`` that starts from weights trained by the ``other`` plan.

    Raises :class:`~deconvseg.errors.InputError` if the same channels or classes are in another order, because the
    weights would confuse them.
    """
    notes = []
    for what, own, theirs in (
        ("channels", _channel_names(plan), _channel_names(other)),
        ("classes", plan.output_names, other.output_names),
    ):
        mine, others = ([name.strip().lower() for name in names] for names in (own, theirs))
        misplaced = [
            name
            for place, name in enumerate(others)
            if name in mine and mine.count(name) == 1 and mine.index(name) != place
        ]
        if misplaced and len(mine) == len(others):
            raise InputError(
                f"{where}: its weights were trained on the {what} {', '.join(theirs)}, but this training has "
                f"{', '.join(own)}: {', '.join(misplaced)} would be taken for another one; use one order"
            )
        if mine != others:
            notes.append(f"pretrained: {', '.join(theirs)} were the {what} of {where}, now {', '.join(own)}")
    return tuple(notes)


def is_default_name(name: str) -> bool:
    """Return whether this is a default name of a class: ``label 1``, ``foreground``."""
    return _UNTOLD_LABEL.fullmatch(name.strip().lower()) is not None


def _is_untold(names: Sequence[str]) -> bool:
    return all(_UNTOLD_CHANNEL.fullmatch(name) for name in names)


def _channel_names(plan: Plan) -> tuple[str, ...]:
    return tuple(channel.name for channel in plan.channels)


def _check_dims(plan: Plan, dataset: Dataset) -> None:
    for case in dataset.cases:
        found = len(read_header(case.images[0]).shape)
        if found != plan.spatial_dims:
            raise InputError(
                f"{case.images[0]}: is {found}D, but the plan is for {plan.spatial_dims}D images; plan anew"
            )


def _match_channels(plan: Plan, dataset: Dataset) -> tuple[Plan, list[str]]:
    own, declared = _channel_names(plan), dataset.channel_names
    order = channel_order(own, declared)
    if order is None:
        raise InputError(
            f"{dataset.root}: has the channels {', '.join(declared)}, but the plan is for {', '.join(own)}; give the "
            "plan of this dataset, or name the channels alike"
        )
    notes = []
    if order != tuple(range(len(own))):
        notes.append(f"the plan's channels {', '.join(own)} are taken in the dataset's order {', '.join(declared)}")
        plan = _reorder_channels(plan, order)
    if _is_untold(own) and not _is_untold(declared):
        named = [c.model_copy(update={"name": name}) for c, name in zip(plan.channels, declared, strict=True)]
        plan = plan.model_copy(update={"channels": tuple(named)})
    for channel, name in zip(plan.channels, declared, strict=True):
        if channel.normalisation == "ct" and name.strip().upper() != "CT":
            notes.append(
                f"channel {name}: is normalised as CT, with the plan's mean {channel.mean:g} and standard "
                f"deviation {channel.std:g}"
            )
        elif channel.normalisation != "ct" and name.strip().upper() == "CT":
            notes.append(f"channel {name}: is normalised by {channel.normalisation}, as the plan says, and not as CT")
    return plan, notes


def _reorder_channels(plan: Plan, order: Sequence[int]) -> Plan:
    update: dict[str, Any] = {"channels": tuple(plan.channels[place] for place in order)}
    if plan.data is not None and len(plan.data.channels) == len(order):
        statistics = tuple(plan.data.channels[place] for place in order)
        update["data"] = plan.data.model_copy(update={"channels": statistics})
    return plan.model_copy(update=update)


def _match_labels(plan: Plan, dataset: Dataset) -> tuple[Plan, list[str]]:
    """Return the plan with the dataset's label values, names and ignore label, in the plan's order, and notes."""
    labels, notes = plan.labels, []
    data = plan.data
    if not labels.foreground_only:
        labels, told = _renumber(labels, dataset)
        notes += told
        renamed = dict(zip(plan.labels.values, labels.values, strict=True))
        if data is not None and labels.values != plan.labels.values:
            known = (
                entry.model_copy(update={"value": renamed[entry.value]})
                for entry in data.classes
                if entry.value in renamed
            )
            data = data.model_copy(update={"classes": tuple(sorted(known, key=lambda entry: entry.value))})
    if dataset.ignore_label is None and labels.ignore is not None:
        notes.append(f"voxels of {labels.ignore} are ignored: so says the plan, and the dataset does not")
    elif dataset.ignore_label != labels.ignore:
        notes.append(f"voxels of {dataset.ignore_label} are ignored, as the dataset declares")
        labels = labels.model_copy(update={"ignore": dataset.ignore_label})
    if labels == plan.labels:
        return plan, notes
    changed = plan.model_copy(update={"labels": labels, "data": data})
    if "labels" in plan.chosen and "labels" not in plan.changed_by_hand:
        chosen = {**plan.chosen, "labels": labels.model_dump(mode="json")}
        changed = changed.model_copy(update={"chosen": chosen})
    # Validate again, because a new value may equal the ignore label.
    return changed.with_values({}), notes


def _renumber(labels: LabelPlan, dataset: Dataset) -> tuple[LabelPlan, list[str]]:
    declared = {value: name for value, name in (dataset.label_names or {}).items() if value != 0}
    if labels.values[0] != 0:
        raise InputError(f"{dataset.root}: its background is 0, but the plan's is {labels.values[0]}; correct the plan")
    own = dict(zip(labels.values[1:], labels.names[1:], strict=True))
    values = _values_by_name(own, declared)
    if values is None:
        raise InputError(
            f"{dataset.root}: has the labels {_listed(declared)}, but the plan is for {_listed(own)}; give the plan of "
            "this dataset, or declare the same labels"
        )
    notes = []
    if values != tuple(own):
        renumbered = ", ".join(f"{declared[value]} {old} → {value}" for old, value in zip(own, values, strict=True))
        notes.append(f"the plan's labels get the dataset's values, by name: {renumbered}")
    names = (labels.names[0], *(declared[value] for value in values))
    return labels.model_copy(update={"values": (0, *values), "names": names}), notes


def _values_by_name(own: Mapping[int, str], declared: Mapping[int, str]) -> tuple[int, ...] | None:
    """Return the dataset's value of each of the plan's labels, in the plan's order, or None if the labels differ."""
    given = [name.strip().lower() for name in own.values()]
    names = {name.strip().lower(): value for value, name in declared.items()}
    if len(own) != len(declared):
        return None
    if set(given) == names.keys() and len(set(given)) == len(given):
        return tuple(names[name] for name in given)
    if set(own) != set(declared):
        return None
    # With equal values, a default name matches any name.
    pairs = ((name, declared[value].strip().lower()) for value, name in zip(own, given, strict=True))
    alike = all(a == b or _UNTOLD_LABEL.fullmatch(a) or _UNTOLD_LABEL.fullmatch(b) for a, b in pairs)
    return tuple(own) if alike else None


def _check_regions(plan: Plan, dataset: Dataset) -> None:
    """Compare declared regions with the plan's; if the dataset declares none, the plan may have any."""
    if dataset.regions is None:
        return
    declared = {r.name.strip().lower(): (sorted(r.labels), r.written_as) for r in dataset.regions}
    own = {r.name.strip().lower(): (sorted(r.labels), r.written_as) for r in plan.structures} if plan.regions else {}
    if own != declared:
        mine = "; ".join(f"{name} {labels}" for name, (labels, _) in own.items()) or "no regions"
        theirs = "; ".join(f"{name} {labels}" for name, (labels, _) in declared.items())
        raise InputError(
            f"{dataset.root}: declares the regions {theirs}, but the plan has {mine}; give the plan of this dataset"
        )


def _listed(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{name} {value}" for value, name in labels.items())
