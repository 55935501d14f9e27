"""Several networks on the same cases, as in the figures of the papers."""

from deconvseg.reporting.side_by_side.cases import NetworkCase, find_crops
from deconvseg.reporting.side_by_side.drawing import LOOKS, draw_networks
from deconvseg.reporting.side_by_side.runs import write_network_figure

__all__ = ["LOOKS", "NetworkCase", "draw_networks", "find_crops", "write_network_figure"]
