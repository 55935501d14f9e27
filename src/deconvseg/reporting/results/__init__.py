"""Tables of papers as they were reproduced: their model and the files that are written from it."""

from deconvseg.reporting.results.efficiency import draw_efficiency
from deconvseg.reporting.results.model import (
    RESULT_FILE,
    CaseScore,
    Cost,
    FoldScore,
    PrintedScore,
    ResultCell,
    ResultColumn,
    ResultFigure,
    ResultRow,
    Scaled,
    TableResult,
    read_results,
)
from deconvseg.reporting.results.published import published_result
from deconvseg.reporting.results.writing import write_results

__all__ = [
    "RESULT_FILE",
    "CaseScore",
    "Cost",
    "FoldScore",
    "PrintedScore",
    "ResultCell",
    "ResultColumn",
    "ResultFigure",
    "ResultRow",
    "Scaled",
    "TableResult",
    "draw_efficiency",
    "published_result",
    "read_results",
    "write_results",
]
