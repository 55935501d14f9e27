"""Published sizes and costs of networks next to measured ones: tables, JSON, a page."""

from deconvseg.reporting.complexity.measuring import (
    MeasuredNetwork,
    MeasuredTable,
    Measuring,
    compare_with_published,
    measure_networks,
)
from deconvseg.reporting.complexity.page import check_page, timing, write_complexity_page
from deconvseg.reporting.complexity.table import cells, reasons_of, text_of_reason, to_json

__all__ = [
    "MeasuredNetwork",
    "MeasuredTable",
    "Measuring",
    "cells",
    "check_page",
    "compare_with_published",
    "measure_networks",
    "reasons_of",
    "text_of_reason",
    "timing",
    "to_json",
    "write_complexity_page",
]
