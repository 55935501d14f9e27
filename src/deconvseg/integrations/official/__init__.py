"""The authors' code of Deconver: its checkpoints become runs."""

from deconvseg.integrations.official.importing import import_official

__all__ = ["import_official"]
