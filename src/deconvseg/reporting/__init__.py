"""Pictures and pages from runs and metrics: learning curves, overlays of cases, the report."""

from deconvseg.reporting.curves import plot_curves
from deconvseg.reporting.overlay import case_panel
from deconvseg.reporting.page import write_report

__all__ = ["case_panel", "plot_curves", "write_report"]
