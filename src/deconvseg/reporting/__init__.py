"""Pictures and pages from runs and metrics: learning curves, overlays of cases, the report."""

from deconvseg.reporting.comparison import Comparison, compare_runs, write_comparison
from deconvseg.reporting.curves import plot_curves, render_curves
from deconvseg.reporting.masks_page import write_mask_report
from deconvseg.reporting.overlay import case_panel
from deconvseg.reporting.page import write_report
from deconvseg.reporting.results import TableResult, draw_efficiency, published_result, read_results, write_results
from deconvseg.reporting.sampling import SamplingMap, draw_sampling, sampling_map
from deconvseg.reporting.side_by_side import NetworkCase, draw_networks, write_network_figure
from deconvseg.reporting.sources import SourceMap, draw_sources, source_maps

__all__ = [
    "Comparison",
    "NetworkCase",
    "SamplingMap",
    "SourceMap",
    "TableResult",
    "case_panel",
    "compare_runs",
    "draw_efficiency",
    "draw_networks",
    "draw_sampling",
    "draw_sources",
    "plot_curves",
    "published_result",
    "read_results",
    "render_curves",
    "sampling_map",
    "source_maps",
    "write_comparison",
    "write_mask_report",
    "write_network_figure",
    "write_report",
    "write_results",
]
