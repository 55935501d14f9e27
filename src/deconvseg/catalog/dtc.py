"""The scores that the paper of DTC prints (arXiv 2601.17939, Tables 1 to 6), with standard deviations."""

from collections.abc import Mapping

from deconvseg.catalog.score_types import PublishedScore, ScoreColumn, ScoreRow, ScoreTable

_ISIC, _BUSI = ScoreColumn("isic", "dsc"), ScoreColumn("busi", "dsc")
_BTCV = (ScoreColumn("btcv", "dsc"), ScoreColumn("btcv", "nsd"))
_SOURCE = "DTC, arXiv 2601.17939"


def _pair(isic: tuple[float, float], busi: tuple[float, float]) -> Mapping[str, PublishedScore]:
    return {_ISIC.key: PublishedScore(*isic), _BUSI.key: PublishedScore(*busi)}


def _btcv(dice: float, nsd: float) -> Mapping[str, PublishedScore]:
    return {column.key: PublishedScore(value) for column, value in zip(_BTCV, (dice, nsd), strict=True)}


def _table(
    number: int, title: str, columns: tuple[ScoreColumn, ...], rows: tuple[ScoreRow, ...], *reasons: str
) -> ScoreTable:
    return ScoreTable(
        f"dtc/table-{number}", f"DTC, Table {number}: {title}", f"{_SOURCE}, Table {number}", columns, rows, reasons
    )


_ROWS_1 = (
    ScoreRow("unet-linear", "UNet (linear)", _pair((78.23, 2.38), (75.08, 1.76)), "UNet, linear"),
    ScoreRow("unet-linear+dysample", "UNet (linear) + DySample", _pair((79.29, 1.55), (76.24, 1.14)),
             "UNet, DySample"),
    ScoreRow("unet-linear+fade", "UNet (linear) + FADE", _pair((78.80, 1.45), (75.80, 2.02)), "UNet, FADE"),
    ScoreRow("unet-linear+dtc", "UNet (linear) + DTC", _pair((79.58, 1.47), (78.14, 1.69)), "UNet, linear, with DTC"),
    ScoreRow("unet-tc", "UNet (transposed)", _pair((78.57, 1.08), (75.76, 1.24)), "UNet, transposed"),
    ScoreRow("unet-tc+dtc", "UNet (transposed) + DTC", _pair((79.41, 1.02), (78.49, 1.63)),
             "UNet, transposed, with DTC"),
)  # fmt: skip
_ROWS_2 = (
    ScoreRow("segmamba", "SegMamba", _pair((78.21, 0.91), (75.43, 1.78)), "SegMamba"),
    ScoreRow("segmamba+dtc", "SegMamba + DTC", _pair((78.70, 1.42), (76.66, 1.51)), "SegMamba with DTC"),
    ScoreRow("swinunetr-v2", "SwinUNETR V2", _pair((77.18, 1.23), (76.02, 1.18)), "SwinUNETR-V2"),
    ScoreRow("swinunetr-v2+dtc", "SwinUNETR V2 + DTC", _pair((77.40, 1.14), (76.35, 2.22)), "SwinUNETR-V2 with DTC"),
)
_ROWS_3 = (
    ScoreRow("nnunet", "nnU-Net", _btcv(81.52, 76.10), "nnU-Net"),
    ScoreRow("nnunet+dtc", "nnU-Net + DTC", _btcv(81.66, 75.97), "nnU-Net with DTC"),
    ScoreRow("unetr", "UNETR", _btcv(69.65, 59.18), "UNETR"),
    ScoreRow("unetr+dtc", "UNETR + DTC", _btcv(71.98, 62.15), "UNETR with DTC"),
    ScoreRow("nnmamba", "nnMamba", _btcv(75.47, 67.05), "nnMamba"),
    ScoreRow("nnmamba+dtc", "nnMamba + DTC", _btcv(76.77, 68.19), "nnMamba with DTC"),
)
# Parts of the predicted coordinates, and Dice of the UNet with linear and with transposed upsampling.
_COMPONENTS: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...] = (
    ("offset", (62.32, 3.68), (70.54, 2.55)),
    ("offset, tanh", (69.82, 2.19), (78.06, 1.08)),
    ("weight, offset", (56.31, 4.92), (49.70, 5.78)),
    ("weight, offset, tanh", (56.59, 4.57), (55.91, 4.11)),
    ("weight, sigmoid, offset", (72.59, 3.55), (74.50, 2.96)),
    ("weight, sigmoid, offset, tanh", (78.14, 1.69), (78.49, 0.69)),
)
# The names of the presets' variants, to which "with DTC" is added.
_VARIANTS = {
    "unet-linear": "UNet, linear,",
    "unet-tc": "UNet, transposed,",
    "nnmamba": "nnMamba",
    "unetr": "UNETR",
}
# The field of Tables 1 and 3; Dice and, for the networks of BTCV, NSD at the receptive fields "inf", 10, 2 and 1.
_FIELDS = ("inf", "10", "2", "1")
_BY_FIELD: tuple[tuple[str, str, str, tuple[float, ...], tuple[float, ...]], ...] = (
    ("nnmamba", "nnMamba", "1", (75.48, 75.46, 75.56, 76.77), (66.86, 66.84, 67.12, 68.19)),
    ("unetr", "UNETR", "2", (71.94, 70.99, 71.98, 69.39), (61.76, 61.78, 62.15, 59.13)),
    ("unet-tc", "UNet (transposed)", "10", (70.85, 79.41, 78.44, 77.65), ()),
    ("unet-linear", "UNet (linear)", "10", (77.30, 79.58, 78.83, 78.93), ()),
)
# The variant of the presets with DTC, and the receptive field that it has.
_OF_PRESETS: Mapping[str, tuple[str, str]] = {
    "nnmamba": ("nnMamba with DTC", "1"),
    "unetr": ("UNETR with DTC", "2"),
    "unet-tc": ("UNet, transposed, with DTC", "10"),
    "unet-linear": ("UNet, linear, with DTC", "10"),
}


def _rows_4() -> tuple[ScoreRow, ...]:
    rows = []
    for place, (base, title) in enumerate((("unet-linear", "UNet (linear)"), ("unet-tc", "UNet (transposed)"))):
        for parts, *dices in _COMPONENTS:
            key = f"{base}:{parts.replace(', ', '+')}"
            dtc = f"{_VARIANTS[base]} with DTC"
            variant = dtc if parts == _COMPONENTS[-1][0] else f"{dtc}: {parts}"
            reasons = ("two_deviations",) if dices[place] == (78.49, 0.69) else ()
            scores = {_BUSI.key: PublishedScore(*dices[place])}
            rows.append(ScoreRow(key, f"{title} + DTC: {parts}", scores, variant, reasons=reasons))
    return tuple(rows)


def _rows_5() -> tuple[ScoreRow, ...]:
    rows = []
    for base, title, own, dices, surfaces in _BY_FIELD:
        for place, field in enumerate(_FIELDS):
            scores = _btcv(dices[place], surfaces[place]) if surfaces else {_ISIC.key: PublishedScore(dices[place])}
            dtc = f"{_VARIANTS[base]} with DTC"
            variant = dtc if field == own else f"{dtc}, receptive field {field}"
            shown = "∞" if field == "inf" else field
            rows.append(ScoreRow(f"{base}:{field}", f"{title} + DTC, receptive field {shown}", scores, variant))
    return tuple(rows)


_ROWS_6 = (
    ScoreRow(
        "dysample", "UNet + DySample", _pair((76.24, 1.14), (79.29, 1.55)), "UNet, DySample", reasons=("exchanged",)
    ),
    ScoreRow("dysample+dtc", "UNet + DySample + DTC", _pair((78.72, 0.71), (80.49, 0.30)), "UNet, DySample, with DTC"),
    ScoreRow("fade", "UNet + FADE", _pair((75.80, 2.02), (78.80, 1.45)), "UNet, FADE", reasons=("exchanged",)),
    ScoreRow("fade+dtc", "UNet + FADE + DTC", _pair((76.87, 1.41), (78.64, 1.05)), "UNet, FADE, with DTC"),
)

DTC_SCORES: tuple[ScoreTable, ...] = (
    _table(1, "upsampling in a U-Net", (_ISIC, _BUSI), _ROWS_1, "deviation"),
    _table(2, "SegMamba and SwinUNETR V2", (_ISIC, _BUSI), _ROWS_2, "deviation"),
    _table(3, "BTCV", _BTCV, _ROWS_3, "tolerance"),
    _table(4, "generation of coordinates", (_BUSI,), _rows_4(), "which_dataset", "deviation"),
    _table(5, "receptive fields", (*_BTCV, _ISIC), _rows_5(), "declines", "tolerance"),
    _table(6, "other upsamplings with DTC", (_ISIC, _BUSI), _ROWS_6, "deviation"),
)
