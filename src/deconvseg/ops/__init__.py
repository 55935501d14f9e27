"""Pure tensor functions: nonnegative deconvolution (Deconver) and deformable upsampling (DTC)."""

from deconvseg.ops.deformable_upsample import deformable_upsample
from deconvseg.ops.ndc import ndc_error, ndc_reconstruct, ndc_solve, ndc_update

__all__ = ["deformable_upsample", "ndc_error", "ndc_reconstruct", "ndc_solve", "ndc_update"]
