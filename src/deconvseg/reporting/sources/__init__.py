"""What nonnegative deconvolution makes of an image: its sources and filters at each stage of a network."""

from deconvseg.reporting.sources.drawing import draw_sources
from deconvseg.reporting.sources.maps import SourceMap
from deconvseg.reporting.sources.running import source_maps

__all__ = ["SourceMap", "draw_sources", "source_maps"]
