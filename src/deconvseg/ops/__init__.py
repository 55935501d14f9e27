"""Pure tensor functions: nonnegative deconvolution (Deconver), deformable upsampling (DTC), reassembly (FADE)."""

from deconvseg.ops.backends import use_backend
from deconvseg.ops.deformable_upsample import deformable_upsample
from deconvseg.ops.explanation import explain
from deconvseg.ops.ndc import ndc_error, ndc_reconstruct, ndc_solve, ndc_update
from deconvseg.ops.reassembly import reassemble

__all__ = [
    "deformable_upsample",
    "explain",
    "ndc_error",
    "ndc_reconstruct",
    "ndc_solve",
    "ndc_update",
    "reassemble",
    "use_backend",
]
