"""Pure tensor functions: nonnegative deconvolution (Deconver) and deformable upsampling (DTC)."""

from deconvseg.ops.backends import use_backend
from deconvseg.ops.deformable_upsample import deformable_upsample
from deconvseg.ops.explanation import explain
from deconvseg.ops.ndc import ndc_error, ndc_reconstruct, ndc_solve, ndc_update

__all__ = [
    "deformable_upsample",
    "explain",
    "ndc_error",
    "ndc_reconstruct",
    "ndc_solve",
    "ndc_update",
    "use_backend",
]
