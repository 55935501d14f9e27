"""Models that leave the computer: the files of a run without names of cases, as one file or with a model card."""

from deconvseg.integrations.sharing.packing import pack
from deconvseg.integrations.sharing.writing import write_package

__all__ = ["pack", "write_package"]
