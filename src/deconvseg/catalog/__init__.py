"""Pure data about the papers: presets, sizes, published figures and cards of datasets; importable without torch."""

from deconvseg.catalog.cards import CARDS, Card
from deconvseg.catalog.further import FURTHER_TABLES
from deconvseg.catalog.preset_types import Preset, Variant
from deconvseg.catalog.presets import PRESETS
from deconvseg.catalog.published import PUBLISHED_TABLES, PublishedRow, PublishedTable
from deconvseg.catalog.reasons import REASONS
from deconvseg.catalog.scores import (
    DATASETS,
    PUBLISHED_SCORES,
    PublishedScore,
    ScoreColumn,
    ScoreRow,
    ScoreTable,
)

__all__ = [
    "CARDS",
    "DATASETS",
    "FURTHER_TABLES",
    "PRESETS",
    "PUBLISHED_SCORES",
    "PUBLISHED_TABLES",
    "REASONS",
    "Card",
    "Preset",
    "PublishedRow",
    "PublishedScore",
    "PublishedTable",
    "ScoreColumn",
    "ScoreRow",
    "ScoreTable",
    "Variant",
]
