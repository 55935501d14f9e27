"""Pure data about the papers: presets, sizes and published figures; importable without torch."""

from deconvseg.catalog.further import FURTHER_TABLES
from deconvseg.catalog.presets import PRESETS, Preset, Variant
from deconvseg.catalog.published import PUBLISHED_TABLES, REASONS, PublishedRow, PublishedTable

__all__ = [
    "FURTHER_TABLES",
    "PRESETS",
    "PUBLISHED_TABLES",
    "REASONS",
    "Preset",
    "PublishedRow",
    "PublishedTable",
    "Variant",
]
