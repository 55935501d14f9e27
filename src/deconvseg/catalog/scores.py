"""All published scores by the key of their table, those of Deconver and of ISLES'26 from the tables of costs."""

from collections.abc import Mapping

from deconvseg.catalog.dtc import DTC_SCORES
from deconvseg.catalog.further import ISLES26
from deconvseg.catalog.published import PUBLISHED_TABLES, PublishedRow, PublishedTable
from deconvseg.catalog.score_types import DATASETS, PublishedScore, ScoreColumn, ScoreRow, ScoreTable

__all__ = ["DATASETS", "PUBLISHED_SCORES", "PublishedScore", "ScoreColumn", "ScoreRow", "ScoreTable"]

_REGIONS = ("ET", "TC", "WT", "")
_COLUMNS: Mapping[int, tuple[ScoreColumn, ...]] = {
    1: (ScoreColumn("isles22", "dsc"), ScoreColumn("isles22", "hd95", "", "voxel", "lower")),
    2: (
        *(ScoreColumn("brats23", "dsc", region) for region in _REGIONS),
        *(ScoreColumn("brats23", "hd95", region, "voxel", "lower") for region in _REGIONS),
    ),
    3: (
        *(ScoreColumn("glas", "dsc"), ScoreColumn("glas", "hd95", "", "pixel", "lower")),
        *(ScoreColumn("fives", "dsc"), ScoreColumn("fives", "hd95", "", "pixel", "lower")),
    ),
}
_COLUMNS = {**_COLUMNS, 4: _COLUMNS[1], 5: _COLUMNS[1]}
_ROMAN = ("I", "II", "III", "IV", "V")
_VARIANTS = {
    "Deconver (3×3×3)": "Deconver, filters of 3",
    "Deconver (3×3)": "Deconver, filters of 3",
    "Deconver (5×5×5)": "Deconver, filters of 5",
    "Deconver (5×5)": "Deconver, filters of 5",
    "Deconver, R = 4": "Deconver, filters of 3",
    "Deconver, G = channels": "Deconver, filters of 3",
}
_KEYS = {"Deconver, R = 4": "deconver-r4", "Deconver, G = channels": "deconver-gc"}


def _key(row: PublishedRow) -> str:
    if "kernel_size" not in row.network:
        return row.model
    changed = [f"{name[0]}{row.network[name]}" for name in ("ratio", "groups") if name in row.network]
    return _KEYS.get(row.system, f"deconver-{changed[0] if changed else 'k' + str(row.network['kernel_size'])}")


def _score(row: PublishedRow, column: ScoreColumn) -> PublishedScore:
    names = {"isles22": "ISLES'22", "glas": "GlaS", "fives": "FIVES", "brats23": column.structure or "mean"}
    dice, hd95 = row.scores[names[column.dataset]]
    return PublishedScore(dice if column.metric == "dsc" else hd95)


def _deconver(number: int, table: PublishedTable) -> ScoreTable:
    columns, digits = _COLUMNS[number], 2 if number == 5 else 1
    unit = "pixel" if number == 3 else "voxel"
    rows = tuple(
        ScoreRow(
            _key(row),
            row.system,
            {column.key: _score(row, column) for column in columns},
            _VARIANTS.get(row.system, row.system),
            f"{row.published_parameters:.{digits}f}M",
            f"{row.published_cost:.1f}K/{unit}",
        )
        for row in table.rows
    )
    source = f"Deconver, arXiv 2504.00302, Table {_ROMAN[number - 1]}"
    reasons = ("voxels", "means_of_distances") if number == 2 else ("voxels",)
    return ScoreTable(f"deconver/table-{number}", table.title, source, columns, rows, reasons)


def _isles26() -> ScoreTable:
    columns = ScoreColumn("isles26", "dsc"), ScoreColumn("isles26", "hd95", "", "voxel", "lower")
    rows = []
    for number, (name, (parameters, *scores)) in enumerate(ISLES26.items(), start=1):
        found = {
            column.key: PublishedScore(value)
            for column, value in zip(columns, scores, strict=True)
            if value is not None
        }
        key = f"{number:02}-{name.split(',')[0].lower().replace(' ', '-')}"
        reasons = () if len(found) == len(columns) else ("unprinted",)
        rows.append(ScoreRow(key, name, found, name, f"{parameters:.2f}M", reasons=reasons))
    source = "Deconver for Stroke Lesion Segmentation (SWITCH 2026), main table"
    return ScoreTable("isles26/table-1", "Deconver for ISLES'26", source, columns, tuple(rows), ("voxels",))


def _table_7(table: PublishedTable) -> ScoreTable:
    rows = tuple(
        ScoreRow(
            row.system.lower().replace(" + ", "+"), row.system, {}, "",
            f"{row.published_parameters:.2f}M", f"{row.published_cost:.2f}G", row.reasons,
        )
        for row in table.rows
    )  # fmt: skip
    return ScoreTable("dtc/table-7", table.title, "DTC, arXiv 2601.17939, Table 7", (), rows)


_TABLES = (
    *(_deconver(number, table) for number, table in enumerate(PUBLISHED_TABLES[:5], start=1)),
    *DTC_SCORES,
    _table_7(PUBLISHED_TABLES[5]),
    _isles26(),
)

PUBLISHED_SCORES: Mapping[str, ScoreTable] = {table.key: table for table in _TABLES}
