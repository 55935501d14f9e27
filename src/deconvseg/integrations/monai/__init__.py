"""MONAI: the parts of its bundles that MONAI's own transforms cannot express, and the bundles of runs.

The configuration of a bundle names these classes; MONAI constructs them.
"""

from deconvseg.integrations.monai.deciding import Decided
from deconvseg.integrations.monai.grid import NetworkGridd
from deconvseg.integrations.monai.inferer import EvenWindowInferer
from deconvseg.integrations.monai.reading import ImageFileReader, LabelFileReader, list_cases
from deconvseg.integrations.monai.scoring import Structuresd

__all__ = [
    "Decided",
    "EvenWindowInferer",
    "ImageFileReader",
    "LabelFileReader",
    "NetworkGridd",
    "Structuresd",
    "list_cases",
]
