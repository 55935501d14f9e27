"""A result of a table with three networks on two datasets: measured, failed and not run cells."""

import numpy as np

from deconvseg.reporting.results import (
    CaseScore,
    Cost,
    FoldScore,
    PrintedScore,
    ResultCell,
    ResultColumn,
    ResultRow,
    Scaled,
    TableResult,
)

COLUMNS = (
    ResultColumn(key="glas/dsc", dataset="GlaS", metric="dsc", title="DSC", unit="%"),
    ResultColumn(key="glas/hd95", dataset="GlaS", metric="hd95", title="HD95", unit="pixel", better="lower"),
    ResultColumn(key="fives/dsc", dataset="FIVES", metric="dsc", title="DSC", unit="%"),
)
MEANS = {"nnunet": (91.0, 80.0, 92.0), "unetr": (90.0, 75.0, 91.0), "deconver": (92.0, 60.0, 92.5)}
PRINTED = {"nnunet": (91.61, 87.17, 92.65), "unetr": (90.45, 73.38, 90.98), "deconver": (92.12, 60.49, 92.72)}


def measured(row: str, place: int, folds: int = 5, cases: int = 20) -> ResultCell:
    """Scores of cases around the row's mean; the score of a fold is the mean of its cases."""
    noise = np.random.default_rng([list(MEANS).index(row), place]).normal(0, 1, cases)
    values = (MEANS[row][place] + noise).round(4)
    scores = tuple(CaseScore(case=f"case{n:02}", fold=n % folds, value=float(value)) for n, value in enumerate(values))
    means = tuple(FoldScore(fold=fold, value=float(values[fold::folds].mean())) for fold in range(folds))
    return ResultCell(
        column=COLUMNS[place].key, status="done", folds=means, cases=scores, run=f"runs/{row}",
        published=PrintedScore(value=PRINTED[row][place]),
    )  # fmt: skip


def make_result() -> TableResult:
    """The result; UNETR failed on GlaS and was not run on FIVES."""
    reasons = ("failed", "out of memory in fold 2"), ("failed", "out of memory in fold 2"), ("not run", "not asked for")
    missing = tuple(
        ResultCell(
            column=COLUMNS[place].key,
            status=status,
            reason=reason,
            published=PrintedScore(value=PRINTED["unetr"][place]),
        )
        for place, (status, reason) in enumerate(reasons)
    )
    sizes = {"nnunet": (20_601_729, 434.94), "deconver": (20_794_785, 490.70)}
    rows = [
        ResultRow(
            key=key, title=title, model=key, network={"kernel_size": 5} if key == "deconver" else {},
            costs={name: Cost(parameters=sizes[key][0], kflops=sizes[key][1]) for name in ("GlaS", "FIVES")},
            published_parameters="20.8M", published_cost="422.8K/pixel",
            cells=tuple(measured(key, place) for place in range(3)),
        )
        for key, title in (("nnunet", "nnU-Net"), ("deconver", "Deconver (5×5)"))
    ]  # fmt: skip
    unetr = ResultRow(
        key="unetr", title="UNETR", model="unetr", cells=missing,
        costs={"GlaS": Cost(parameters=91_225_313), "FIVES": Cost(parameters=91_815_137, kflops=1190.34)},
    )  # fmt: skip
    return TableResult(
        key="deconver/table-3", title="Deconver, Table III: GlaS and FIVES", paper="arXiv 2504.00302, Table III",
        columns=COLUMNS, rows=(rows[0], unetr, rows[1]), folds=5, command="deconvseg reproduce deconver/table-3",
        scaled=(Scaled(what="steps", paper="8,500", here="40"),), notes=("The patch is 64 × 64.",),
        versions={"deconvseg": "0.1.0"}, made="2026-11-30 06:00",
    )  # fmt: skip
