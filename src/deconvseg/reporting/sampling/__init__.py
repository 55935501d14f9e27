"""The sampling positions of learned upsamplings: DTC's Fig. 7 (arXiv 2601.17939), and the numbers behind it."""

from deconvseg.reporting.sampling.drawing import draw_sampling
from deconvseg.reporting.sampling.maps import SamplingMap
from deconvseg.reporting.sampling.running import sampling_map

__all__ = ["SamplingMap", "draw_sampling", "sampling_map"]
