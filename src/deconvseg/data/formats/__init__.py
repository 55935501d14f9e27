"""File formats: one module per format, shared decoding code and the registry of readers.

Each module registers its readers when it is imported here.
"""

from deconvseg.data.formats import analyze, dicom, itk, mgh, nifti, raster

__all__ = ["analyze", "dicom", "itk", "mgh", "nifti", "raster"]
