"""The regions of a preset on a dataset, from the meaning of its labels, and presets of other numbers of structures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from deconvseg.catalog import PRESETS, Preset
from deconvseg.data import Dataset, Region
from deconvseg.errors import InputError
from deconvseg.planning.matching import is_default_name
from deconvseg.text import number_of

# Names of the labels in the editions of BraTS, in nnU-Net's datasets and in the Medical Segmentation Decathlon.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "NCR": (
        *("ncr", "ncr net", "netc", "necrosis", "necrotic", "necrotic core", "necrotic tumor core"),
        *("non enhancing tumor", "non enhancing tumor core", "non enhancing core", "non enhancing"),
        *("necrotic and non enhancing tumor core", "necrotic non enhancing tumor core"),
    ),
    "ED": (
        *("ed", "edema", "peritumoral edema", "peritumoral edematous tissue"),
        *("snfh", "edema invaded tissue", "peritumoral edematous invaded tissue"),
    ),
    "ET": ("et", "enhancing", "enhancing tumor", "gd enhancing tumor", "enhancing core", "enhancing tumor core"),
}
# Values of the labels where nothing names them: BraTS'23, and the editions before, whose enhancing tumour is 4.
_VALUES: tuple[Mapping[int, str], ...] = ({1: "NCR", 2: "ED", 3: "ET"}, {1: "NCR", 2: "ED", 4: "ET"})


def preset_regions(name: str, dataset: Dataset, labels: Mapping[int, str]) -> tuple[tuple[Region, ...], str]:
    """Return the regions of a preset for the foreground ``labels`` of a dataset (names by value), and the reason.

    Labels are found by their names, or, if none has a name, by the values of BraTS. Regions that the dataset declares
    are kept if they overlap as the preset's do. Raises :class:`InputError` if the dataset cannot have the regions.
    """
    wanted = PRESETS[name].regions
    assert wanted is not None
    if dataset.regions is not None:
        return dataset.regions, _describe_declared(name, dataset, dataset.regions, wanted)
    needed = list(dict.fromkeys(label for members in wanted.values() for label in members))
    values, how = (None, "") if dataset.foreground else _find_values(needed, labels)
    if values is None:
        told = ", ".join(f"{value} ({text})" for value, text in labels.items()) or "none"
        found = "all labels as one class" if dataset.foreground else f"the labels {told}"
        example = ", ".join(f"{value}={label}" for value, label in enumerate(needed, 1))
        raise InputError(
            f"{dataset.root}: has {found}, but preset {name} needs {', '.join(needed)} for its regions "
            f"{_listed(wanted)}; name them by `labels`, such as {example}, or omit `preset`"
        )
    regions = _place(wanted, values)
    mapping = ", ".join(f"{value} is {label}" for label, value in sorted(values.items(), key=lambda pair: pair[1]))
    return regions, f"preset {name}: {_listed(wanted)}, a sigmoid each; {how} {mapping}"


def describe_outputs(name: str, dataset: Dataset, structures: Sequence[str]) -> str | None:
    """Return a warning if a preset is for another number of structures than the dataset has; None if it is not.

    Such a preset is a starting point for other data: its network gets as many outputs as the data has.
    """
    wanted = _count(PRESETS[name])
    if len(structures) == wanted:
        return None
    merge = "; it would be with all labels as one class" if wanted == 1 and dataset.regions is None else ""
    return (
        f"preset {name} is a paper's for {number_of(wanted, 'structure')}, and the dataset has {len(structures)} "
        f"({', '.join(structures)}): the network predicts these, and is not exactly the paper's{merge}"
    )


def _count(preset: Preset) -> int:
    """Return how many structures the networks of a preset predict: regions, or classes without the background."""
    # A single output is a sigmoid; several are a softmax with the background.
    return len(preset.regions) if preset.regions is not None else max(1, preset.ends["out_channels"] - 1)


def _place(wanted: Mapping[str, tuple[str, ...]], values: Mapping[str, int]) -> tuple[Region, ...]:
    """Return the regions in values of the mask; each is painted as a label that no region inside it has."""
    regions, order = [], list(wanted.items())
    for place, (region, members) in enumerate(order):
        inner = {label for _, further in order[place + 1 :] for label in further}
        painted = next((label for label in members if label not in inner), members[0])
        regions.append(Region(region, tuple(sorted(values[label] for label in members)), values[painted]))
    return tuple(regions)


def _find_values(needed: Sequence[str], labels: Mapping[int, str]) -> tuple[dict[str, int] | None, str]:
    """Return the value of each needed label, None if they are not found, and how they were found."""
    told = {value: name for value, name in labels.items() if not is_default_name(name)}
    if not told:
        for known in _VALUES:
            if set(known) == set(labels) and set(known.values()) == set(needed):
                return {label: value for value, label in known.items()}, "the labels have no names; as in BraTS,"
        return None, ""
    found: dict[str, int] = {}
    for value, name in told.items():
        match = [label for label in needed if _plain(name) in (label.lower(), *_NAMES.get(label, ()))]
        if len(match) != 1 or match[0] in found:
            return None, ""
        found[match[0]] = value
    exact = len(told) == len(labels) and set(found) == set(needed)
    return (found if exact else None), "by their names,"


def _plain(name: str) -> str:
    """Return a name in lower case and American spelling, words separated by single spaces."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    return words.replace("tumour", "tumor").replace("oedema", "edema").removeprefix("label ")


def _describe_declared(
    name: str, dataset: Dataset, declared: Sequence[Region], wanted: Mapping[str, tuple[str, ...]]
) -> str:
    """Return how declared regions are those of a preset; `InputError` if they do not overlap in the same way."""
    own = sorted(((region.name, set(region.labels)) for region in declared), key=lambda pair: -len(pair[1]))
    theirs = sorted(((region, set(members)) for region, members in wanted.items()), key=lambda pair: -len(pair[1]))
    if not _overlap_alike([labels for _, labels in own], [members for _, members in theirs]):
        found = "; ".join(f"{region.name} of {', '.join(map(str, region.labels))}" for region in declared)
        raise InputError(
            f"{dataset.root}: declares the regions {found}, but preset {name} needs {_listed(wanted)}; correct them "
            "by `labels`, or omit `preset`"
        )
    mapping = ", ".join(f"{one} is {other}" for (one, _), (other, _) in zip(own, theirs, strict=True) if one != other)
    same = f"; {mapping}" if mapping else ""
    return f"declared by the dataset, and overlapping as those of preset {name}, a sigmoid each{same}"


def _overlap_alike(own: Sequence[set[int]], theirs: Sequence[set[str]]) -> bool:
    """Whether sets, the largest first, have as many elements as others, and contain each other in the same way."""
    return len(own) == len(theirs) and all(
        len(a) == len(b) and [a >= other for other in own] == [b >= other for other in theirs]
        for a, b in zip(own, theirs, strict=True)
    )


def _listed(regions: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{name} ({' + '.join(members)})" for name, members in regions.items())
