"""Trained models for deconvseg: packed runs beside their cards, which importing this package registers by name."""

from pathlib import Path

from deconvseg.runs import PACKED_SUFFIX, register_pretrained

MODELS = Path(__file__).parent / "models"

for _file in sorted(MODELS.glob(f"*{PACKED_SUFFIX}")):
    register_pretrained(_file.name.removesuffix(PACKED_SUFFIX), _file)
