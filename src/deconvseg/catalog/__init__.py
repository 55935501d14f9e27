"""Pure data about the papers: presets, sizes, published figures and cards of datasets; importable without torch."""

from deconvseg.catalog.cards import CARDS, Card
from deconvseg.catalog.further import FURTHER_TABLES
from deconvseg.catalog.presets import PRESETS, Preset, Variant
from deconvseg.catalog.published import PUBLISHED_TABLES, REASONS, PublishedRow, PublishedTable

__all__ = [
    "CARDS",
    "FURTHER_TABLES",
    "PRESETS",
    "PUBLISHED_TABLES",
    "REASONS",
    "Card",
    "Preset",
    "PublishedRow",
    "PublishedTable",
    "Variant",
]
