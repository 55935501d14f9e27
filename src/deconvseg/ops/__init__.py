"""Pure tensor functions: nonnegative deconvolution and factorisation, upsampling, normalisation, selective scan."""

from deconvseg.ops.backends import use_backend
from deconvseg.ops.deformable_upsample import deformable_upsample
from deconvseg.ops.deformable_upsample.exporting import exported_sampling
from deconvseg.ops.explanation import explain
from deconvseg.ops.flops import register_flops
from deconvseg.ops.instance_norm import instance_norm
from deconvseg.ops.ndc import ndc_error, ndc_reconstruct, ndc_solve, ndc_update
from deconvseg.ops.nmf import nmf, windowed_nmf
from deconvseg.ops.reassembly import compare_neighbours, reassemble
from deconvseg.ops.registry import register_backend, unregister_backend
from deconvseg.ops.selective_scan import selective_scan

__all__ = [
    "compare_neighbours",
    "deformable_upsample",
    "explain",
    "exported_sampling",
    "instance_norm",
    "ndc_error",
    "ndc_reconstruct",
    "ndc_solve",
    "ndc_update",
    "nmf",
    "reassemble",
    "register_backend",
    "selective_scan",
    "unregister_backend",
    "use_backend",
    "windowed_nmf",
]

register_flops()
