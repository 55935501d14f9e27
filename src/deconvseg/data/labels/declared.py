"""Declarations of labels by the user: names, colours, regions and ignored values, such as ``1=organ:#ff8800``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deconvseg.data.colours import parse_colour
from deconvseg.data.dataset import Region, list_names
from deconvseg.data.labels.painting import Paint, check_painting
from deconvseg.errors import InputError

BACKGROUND, IGNORE = "background", "ignore"
_FORMS = "write 1=organ, 1=organ:#ff8800, 255=ignore, or a region such as tumour=1,2"
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
# Separators of lists, tables and options, which a name must not contain.
_SEPARATORS = ",;:=|/\\"


@dataclass(frozen=True)
class LabelEntry:
    """An entry of a declaration: the name of a value, or with ``by_name`` a name with one or several values.

    Example:
        >>> from deconvseg.data import LabelEntry
        >>> str(LabelEntry("organ", (1,), "#ff8800"))
        '1=organ:#ff8800'

    """

    name: str
    values: tuple[int, ...]
    colour: str | None = None
    by_name: bool = False

    def __str__(self) -> str:
        """Return the entry in the form of `parse_label`."""
        values = ",".join(map(str, self.values))
        text = f"{self.name}={values}" if self.by_name else f"{values}={self.name}"
        return text if self.colour is None else f"{text}:{self.colour}"


@dataclass(frozen=True)
class DeclaredLabels:
    """The declared meaning of mask values.

    ``names`` maps values to names, without the ignore label; if several values form one class, only the first is
    listed, and ``merged`` maps the others to it. ``regions`` are unions of values that are predicted instead of the
    classes. ``colours`` maps names to ``#rrggbb``; ``colour_values`` maps the colours of masks in true colour to
    values.

    Example:
        >>> from deconvseg.data import DeclaredLabels
        >>> DeclaredLabels({0: "background", 1: "organ"}, colours={"organ": "#ff8800"}).names[1]
        'organ'

    """

    names: Mapping[int, str]
    regions: tuple[Region, ...] | None = None
    ignore: int | None = None
    merged: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    colour_values: Mapping[str, int] = field(default_factory=dict)


def parse_label(text: str) -> LabelEntry:
    """Parse a text ``VALUE=NAME`` or ``NAME=VALUE,VALUE``, optionally followed by a colour ``:#rrggbb``.

    Raises `InputError` for another form, a name without a letter or with a separator, and an invalid colour.

    Example:
        >>> from deconvseg.data import parse_label
        >>> parse_label("1=organ:#f80")
        LabelEntry(name='organ', values=(1,), colour='#ff8800', by_name=False)
        >>> parse_label("whole tumour=1,2")
        LabelEntry(name='whole tumour', values=(1, 2), colour=None, by_name=True)

    """
    left, equals, right = (part.strip() for part in text.partition("="))
    right, hashed, colour = right.partition(":")
    if not equals or not left or not right:
        raise InputError(f"{text!r} declares no label; {_FORMS}")
    found = parse_colour(colour) if hashed else None
    if _INTEGER.fullmatch(left):
        return make_entry(right, (int(left),), found)
    values = [part.strip() for part in right.split(",")]
    if not all(_INTEGER.fullmatch(value) for value in values):
        raise InputError(f"{text!r} declares no label: {right!r} are no values; {_FORMS}")
    return make_entry(left, tuple(map(int, values)), found, by_name=True)


def make_entry(
    name: str, values: Sequence[int], colour: str | None = None, *, by_name: bool = False, where: str = ""
) -> LabelEntry:
    """Return an entry after a check of its name; `InputError` for an invalid name, prefixed with ``where``."""
    name = " ".join(name.split())
    start = f"{where}: " if where else ""
    if not name or _INTEGER.fullmatch(name) or not name.isprintable():
        raise InputError(f"{start}the name of {list_names(values)} is {name!r}; give a name with letters")
    if found := next((mark for mark in _SEPARATORS if mark in name), None):
        raise InputError(f"{start}the name {name!r} has a {found!r}, which separates names; write another character")
    if name.lower() in (BACKGROUND, IGNORE):
        name = name.lower()
    if len(set(values)) < len(values):
        raise InputError(f"{start}{name} lists a value twice ({', '.join(map(str, values))}); remove one")
    return LabelEntry(name, tuple(values), colour, by_name)


def declare_labels(entries: Iterable[LabelEntry], where: str) -> DeclaredLabels:
    """Combine entries to a declaration; errors begin with their source ``where``.

    Several values with one name form one class. A name with several values is a region, and then every other entry that
    starts with a name is a region too. Raises `InputError` for two names or two colours of a value, a background or
    ignore label that is also a class, and regions that one mask cannot represent.

    Example:
        >>> from deconvseg.data import declare_labels, parse_labels
        >>> declared = declare_labels(parse_labels(["1=kidney", "2=kidney", "3=tumour", "255=ignore"]), "here")
        >>> dict(declared.names), dict(declared.merged), declared.ignore
        ({0: 'background', 1: 'kidney', 3: 'tumour'}, {2: 1}, 255)

    """
    listed = list(entries)
    if not listed:
        raise InputError(f"{where}: declares no label; {_FORMS}")
    unions = any(len(entry.values) > 1 for entry in listed)
    regions = [entry for entry in listed if unions and entry.by_name and entry.name not in (BACKGROUND, IGNORE)]
    classes = [entry for entry in listed if entry not in regions]
    names = _names_by_value(classes, where)
    first: dict[str, int] = {}
    merged = {value: first[name] for value, name in names.items() if first.setdefault(name, value) != value}
    ignore = first.get(IGNORE)
    if names.get(0, BACKGROUND) == IGNORE or first.get(BACKGROUND, 0) != 0:
        raise InputError(f"{where}: 0 is the background, and no other value is; correct {names}")
    kept = {0: BACKGROUND} | {value: name for name, value in first.items() if name != IGNORE}
    _check_case(kept.values(), where)
    for entry in regions:
        kept |= {merged.get(v, v): kept.get(merged.get(v, v), f"label {v}") for v in entry.values}
    return DeclaredLabels(
        names=dict(sorted(kept.items())),
        regions=_make_regions(regions, merged, ignore, where) if regions else None,
        ignore=ignore,
        merged=merged,
        colours=_colours(listed, where),
        colour_values=_colour_values(classes, merged, where),
    )


def label_entries(declared: DeclaredLabels) -> list[LabelEntry]:
    """Return entries that are equivalent to a declaration.

    Example:
        >>> from deconvseg.data import declare_labels, label_entries, parse_labels
        >>> [str(entry) for entry in label_entries(declare_labels(parse_labels(["organ=1"]), "here"))]
        ['0=background', '1=organ']

    """
    colours = dict(declared.colours)
    stored = {value: colour for colour, value in declared.colour_values.items()}
    names = {**declared.names, **({} if declared.ignore is None else {declared.ignore: IGNORE})}
    entries = [LabelEntry(name, (value,), stored.get(value, colours.get(name))) for value, name in names.items()]
    entries += [LabelEntry(names[value], (other,)) for other, value in declared.merged.items()]
    return entries + [LabelEntry(r.name, r.labels, colours.get(r.name), by_name=True) for r in declared.regions or ()]


def _names_by_value(classes: Iterable[LabelEntry], where: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in classes:
        for value in entry.values:
            if names.setdefault(value, entry.name) != entry.name:
                raise InputError(
                    f"{where}: the value {value} has two names, {names[value]!r} and {entry.name!r}; keep one"
                )
    return names


def _check_case(names: Iterable[str], where: str) -> None:
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(name.casefold(), name)) != name:
            raise InputError(f"{where}: the names {other!r} and {name!r} differ in capitals alone; write both alike")


def _colours(entries: Iterable[LabelEntry], where: str) -> dict[str, str]:
    """Return the colour of each name; a class of several values has the colour of the first value with one."""
    colours: dict[str, str] = {}
    owners: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        if entry.colour is None or entry.name in (BACKGROUND, IGNORE):
            continue
        if colours.setdefault(entry.name, entry.colour) != entry.colour and owners[entry.name] == entry.values:
            raise InputError(
                f"{where}: {entry.name} has two colours, {colours[entry.name]} and {entry.colour}; keep one"
            )
        owners.setdefault(entry.name, entry.values)
    return colours


def _colour_values(classes: Iterable[LabelEntry], merged: Mapping[int, int], where: str) -> dict[str, int]:
    """Return the value of each colour, without colours that two classes share."""
    found: dict[str, set[int]] = {}
    for entry in classes:
        if entry.colour is not None and len(entry.values) == 1:
            found.setdefault(entry.colour, set()).add(merged.get(entry.values[0], entry.values[0]))
    return {colour: next(iter(values)) for colour, values in found.items() if len(values) == 1}


def _make_regions(
    entries: Sequence[LabelEntry], merged: Mapping[int, int], ignore: int | None, where: str
) -> tuple[Region, ...]:
    """Return the regions, each written as its smallest label that is not in a region inside it."""
    twice = [entry.name for place, entry in enumerate(entries) if entry.name in [e.name for e in entries[:place]]]
    if twice:
        raise InputError(f"{where}: the region {twice[0]} is declared twice; keep one")
    sets = [frozenset(merged.get(value, value) for value in entry.values) for entry in entries]
    for entry, labels in zip(entries, sets, strict=True):
        if labels & {0, ignore}:
            raise InputError(
                f"{where}: the region {entry.name} has {sorted(labels & {0, ignore})[0]}, which is not a class; "
                "remove it from the region"
            )
    regions: list[Region] = []
    for entry, labels in zip(entries, sets, strict=True):
        inside = frozenset[int]().union(*(other for other in sets if other < labels))
        own = sorted(labels - inside - {region.written_as for region in regions})
        if not own:
            raise InputError(
                f"{where}: the region {entry.name} has no label of its own that a mask could hold for it; leave out "
                "a region that others make up"
            )
        values = tuple(dict.fromkeys(merged.get(value, value) for value in entry.values))
        regions.append(Region(entry.name, values, own[0]))
    paints = [Paint(region.name, frozenset(region.labels), region.written_as) for region in regions]
    check_painting(paints, where, "declare regions that are nested or have no label in common")
    return tuple(regions)


def override_labels(known: DeclaredLabels, given: DeclaredLabels) -> tuple[DeclaredLabels, list[str]]:
    """Return a dataset's declaration with the user's replacements, and a sentence about each changed name.

    Raises `InputError` if a given name is also that of another value of the dataset.
    """
    names = {**given.names, **known.names, **{v: name for v, name in given.names.items() if name != f"label {v}"}}
    names = {value: name for value, name in names.items() if value not in given.merged and value != given.ignore}
    for value, name in given.names.items():
        if other := next((v for v, known in names.items() if v != value and known.casefold() == name.casefold()), None):
            raise InputError(
                f"`labels`: {value} is {name!r}, but so is {other} in the dataset; give {other} another name too, or "
                f"the same one ({other}={name}) to make both one class"
            )
    changed = [
        f"{value} is {names[value]!r}, as `labels` says, and not {name!r}"
        for value, name in known.names.items()
        if value and value in names and names[value] != name
    ]
    changed += [f"{value} is ignored, as `labels` says" for value in known.names if value == given.ignore]
    return replace(
        given,
        names=dict(sorted(names.items())),
        regions=known.regions if given.regions is None else given.regions,
        ignore=known.ignore if given.ignore is None else given.ignore,
        colours={**known.colours, **given.colours},
    ), changed
