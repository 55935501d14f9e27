"""Pure data about the papers: presets, sizes and published figures; importable without torch."""

from deconvseg.catalog.presets import PRESETS, Preset
from deconvseg.catalog.published import DECONVER_COMPLEXITY, Complexity

__all__ = ["DECONVER_COMPLEXITY", "PRESETS", "Complexity", "Preset"]
