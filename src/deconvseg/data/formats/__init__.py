"""File formats: one file for each, its decoding, what decoders share, and the registry of readers.

Each file registers its readers when it is imported, which is done here.
"""

from deconvseg.data.formats import analyze, itk, mgh, nifti, raster

__all__ = ["analyze", "itk", "mgh", "nifti", "raster"]
