"""Pictures and pages from runs and metrics: learning curves, overlays of cases, the report."""

from deconvseg.reporting.curves import plot_curves, render_curves
from deconvseg.reporting.overlay import case_panel
from deconvseg.reporting.page import write_report
from deconvseg.reporting.sampling import SamplingMap, sampling_map

__all__ = ["SamplingMap", "case_panel", "plot_curves", "render_curves", "sampling_map", "write_report"]
