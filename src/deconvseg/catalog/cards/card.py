"""The card of a dataset: where it comes from, under which licence, and what its publisher states about it."""

from collections.abc import Mapping
from typing import NamedTuple


class Card(NamedTuple):
    """A dataset of the papers, as its publisher describes it.

    ``name`` is that of the preset and of the layout. ``source`` is the publisher's address, ``access`` how to get the
    files, ``tree`` the names of the files as they are published. ``counts`` maps each published part to its number of
    cases, ``masks`` holds the parts whose masks are published. ``checksums`` maps files to the digests that the
    publisher states, such as ``md5:…``; it is empty if none are published. ``remarks`` are sentences on what the paper
    takes from the dataset.

    Example:
        >>> from deconvseg.catalog import CARDS
        >>> card = CARDS["isles22"]
        >>> card.title, card.counts["training"]
        ("ISLES'22", 250)

    """

    name: str
    title: str
    source: str
    licence: str
    access: str
    citation: str
    tree: tuple[str, ...]
    counts: Mapping[str, int]
    masks: tuple[str, ...]
    checksums: Mapping[str, str] = {}
    remarks: tuple[str, ...] = ()
