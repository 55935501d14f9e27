"""Two or more runs side by side: what differs between them, and how their masks of the same cases score."""

from deconvseg.reporting.comparison.page import write_comparison
from deconvseg.reporting.comparison.pairing import Comparison, compare_runs

__all__ = ["Comparison", "compare_runs", "write_comparison"]
