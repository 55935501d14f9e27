"""Published sizes, costs and scores: Deconver (arXiv 2504.00302, Tables I-V) and DTC (arXiv 2601.17939, Table 7)."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class PublishedRow(NamedTuple):
    """One row of a published table: the printed figures, and the arguments that build the network.

    ``published_parameters`` and ``published_cost`` are the printed figures in the table's units, None where none is
    printed; ``scores`` maps each column of the table to Dice (%) and HD95. ``model`` is the name of a registered
    network, ``preset`` and ``network`` are its arguments. ``parameters`` is the exact count; ``kflops`` is twice the
    number of multiply-accumulates of all layers, in thousands per pixel or voxel. ``reasons`` are keys of
    :data:`~deconvseg.catalog.REASONS`, which explain differences between printed and exact figures.

    Example:
        >>> from deconvseg.catalog import PUBLISHED_TABLES
        >>> row = PUBLISHED_TABLES[0].rows[0]
        >>> row.system, row.published_parameters, row.scores
        ('nnU-Net', 22.4, {"ISLES'22": (76.76, 5.54)})

    """

    system: str
    model: str
    network: Mapping[str, Any]
    published_parameters: float | None = None
    published_cost: float | None = None
    scores: Mapping[str, tuple[float, float]] = {}
    parameters: int | None = None
    kflops: float | None = None
    preset: str | None = None
    reasons: tuple[str, ...] = ()


class PublishedTable(NamedTuple):
    """A table of a paper, with the presets that it covers and the input size of its costs.

    ``parameters_unit`` is ``"M"`` (millions) or ``"MiB"`` (of float32); ``cost_unit`` is ``"K/voxel"`` (thousands of
    operations per pixel or voxel) or ``"G"`` (billions for one image); ``rule`` names the counting rule, None where no
    cost is printed.

    Example:
        >>> from deconvseg.catalog import PUBLISHED_TABLES
        >>> PUBLISHED_TABLES[0].title, PUBLISHED_TABLES[0].cost_unit
        ("Deconver, Table I: ISLES'22", 'K/voxel')

    """

    title: str
    presets: tuple[str, ...]
    size: tuple[int, ...]
    parameters_unit: str
    cost_unit: str
    rule: str | None
    rows: tuple[PublishedRow, ...]


_OF_RULE = ("deconvolutions", "elementwise")
_TWO_D = {"in_channels": 3, "out_channels": 1, "spatial_dims": 2}


def _deconver(
    system: str,
    preset: str,
    network: Mapping[str, Any],
    published: tuple[float, float],
    true: tuple[int, float],
    scores: Mapping[str, tuple[float, float]],
    *reasons: str,
) -> PublishedRow:
    return PublishedRow(system, "deconver", network, *published, scores, *true, preset, (*reasons, *_OF_RULE))


def _peer(
    system: str,
    model: str,
    preset: str,
    published: tuple[float, float],
    true: tuple[int, float],
    scores: Mapping[str, tuple[float, float]],
    *reasons: str,
) -> PublishedRow:
    return PublishedRow(system, model, {}, *published, scores, *true, preset, reasons)


def _isles(dice: float, hd95: float) -> Mapping[str, tuple[float, float]]:
    return {"ISLES'22": (dice, hd95)}


def _brats(dice: tuple[float, ...], hd95: tuple[float, ...]) -> Mapping[str, tuple[float, float]]:
    return dict(zip(("ET", "TC", "WT", "mean"), zip(dice, hd95, strict=True), strict=True))


def _glas_fives(*scores: float) -> Mapping[str, tuple[float, float]]:
    return {"GlaS": (scores[0], scores[1]), "FIVES": (scores[2], scores[3])}


_ISLES_K3 = (10_476_545, 707.40)
_ROWS_1 = (
    _peer("nnU-Net", "nnunet", "isles22", (22.4, 3423.5), (22_392_257, 1708.42),
          _isles(76.76, 5.54), "registered_twice", "elementwise"),
    _peer("SegResNet", "segresnet", "isles22", (75.9, 2228.6), (75_858_945, 2222.98),
          _isles(76.85, 5.18), "elementwise"),
    _peer("UNETR", "unetr", "isles22", (133.2, 525.9), (104_816_673, 523.58),
          _isles(73.74, 6.54), "unused_weights", "elementwise"),
    _peer("Swin UNETR", "swin_unetr", "isles22", (62.2, 4356.8), (62_188_387, 739.17),
          _isles(76.58, 5.55), "repeated_products"),
    _peer("Factorizer", "factorizer", "isles22", (7.5, 2266.7), (7_547_393, 405.84),
          _isles(76.73, 5.93), "repeated_products"),
    _deconver("Deconver (3×3×3)", "isles22", {"kernel_size": 3}, (10.5, 607.0), _ISLES_K3, _isles(78.16, 4.99)),
    _deconver("Deconver (5×5×5)", "isles22", {"kernel_size": 5}, (11.0, 607.0), (11_028_481, 1104.89),
              _isles(77.37, 4.89)),
)  # fmt: skip
_ROWS_2 = (
    _peer("nnU-Net", "nnunet", "brats23", (22.6, 921.0), (22_574_563, 458.88),
          _brats((86.73, 91.40, 93.25, 90.46), (3.33, 3.88, 5.54, 4.34)), "registered_twice", "elementwise"),
    _peer("SegResNet", "segresnet", "brats23", (75.9, 2235.7), (75_862_531, 2230.14),
          _brats((86.68, 91.49, 93.44, 90.53), (3.26, 3.92, 5.21, 4.17)), "elementwise"),
    _peer("UNETR", "unetr", "brats23", (139.8, 536.8), (111_454_051, 534.40),
          _brats((85.47, 89.92, 92.64, 89.34), (4.22, 4.98, 6.93, 5.47)), "unused_weights", "elementwise"),
    _peer("Swin UNETR", "swin_unetr", "brats23", (62.2, 4098.6), (62_191_941, 735.90),
          _brats((86.71, 91.27, 93.41, 90.46), (3.42, 3.94, 5.42, 4.36)), "repeated_products"),
    _peer("Factorizer", "factorizer", "brats23", (7.6, 1087.5), (7_603_459, 116.15),
          _brats((85.99, 90.51, 93.13, 89.88), (3.69, 4.36, 5.68, 4.67)), "repeated_products"),
    _deconver("Deconver (3×3×3)", "brats23", {"kernel_size": 3}, (10.6, 167.5), (10_553_859, 218.04),
              _brats((87.01, 91.56, 93.42, 90.66), (3.30, 3.80, 5.63, 4.45))),
    _deconver("Deconver (5×5×5)", "brats23", {"kernel_size": 5}, (11.0, 167.5), (11_130_883, 418.25),
              _brats((86.97, 91.41, 93.47, 90.62), (3.50, 3.99, 5.59, 4.49)), "copied"),
)  # fmt: skip
_ROWS_3 = (
    _peer("nnU-Net", "nnunet", "fives", (20.6, 874.8), (20_601_729, 434.94),
          _glas_fives(91.61, 87.17, 92.65, 33.01), "registered_twice", "elementwise"),
    _peer("SegResNet", "segresnet", "fives", (25.5, 1928.8), (25_525_569, 1920.51),
          _glas_fives(91.23, 69.64, 92.71, 28.80), "elementwise"),
    _peer("UNETR", "unetr", "fives", (120.2, 1195.1), (91_815_137, 1190.34),
          _glas_fives(90.45, 73.38, 90.98, 35.40), "size_of_fives", "unused_weights", "elementwise"),
    _peer("Swin UNETR", "swin_unetr", "fives", (25.1, 1406.0), (25_139_275, 542.61),
          _glas_fives(91.70, 67.27, 92.69, 30.87), "repeated_products"),
    _deconver("Deconver (3×3)", "fives", {"kernel_size": 3}, (20.6, 422.8), (20_635_041, 442.89),
              _glas_fives(91.52, 68.52, 92.48, 35.45)),
    _deconver("Deconver (5×5)", "fives", {"kernel_size": 5}, (20.8, 422.8), (20_794_785, 490.70),
              _glas_fives(92.12, 60.49, 92.72, 30.26)),
)  # fmt: skip
_ROWS_4 = (
    _deconver("Deconver, R = 1", "isles22", {"kernel_size": 3, "ratio": 1}, (7.8, 425.8), (7_753_217, 447.09),
              _isles(77.39, 5.07)),
    _deconver("Deconver, R = 2", "isles22", {"kernel_size": 3, "ratio": 2}, (8.7, 486.2), (8_660_993, 533.86),
              _isles(77.32, 5.17)),
    _deconver("Deconver, R = 4", "isles22", {"kernel_size": 3}, (10.5, 607.0), _ISLES_K3, _isles(78.16, 4.99)),
)  # fmt: skip
_ROWS_5 = (
    _deconver("Deconver, G = 1", "isles22", {"kernel_size": 3, "groups": 1}, (57.21, 607.4), (57_215_489, 10219.39),
              _isles(77.76, 5.08), "truncated"),
    _deconver("Deconver, G = 8", "isles22", {"kernel_size": 3, "groups": 8}, (16.18, 607.1), (16_185_857, 1800.58),
              _isles(77.90, 5.05), "truncated"),
    _deconver("Deconver, G = channels", "isles22", {"kernel_size": 3}, (10.48, 607.0), _ISLES_K3, _isles(78.16, 4.99)),
)  # fmt: skip
_ROWS_7 = (
    PublishedRow("UNet", "unet", {**_TWO_D, "upsampling": "linear"}, 65.95, 40.13, {}, 17_262_977, 1221.06,
                 reasons=("mebibytes", "misprint", "macs")),
    PublishedRow("UNet + DySample", "unet", {**_TWO_D, "upsampling": "dysample"}, 65.97, 40.18, {}, 17_293_825, 1223.0,
                 reasons=("mebibytes", "macs")),
    PublishedRow("UNet + FADE", "unet", {**_TWO_D, "upsampling": "fade"}, 66.55, 42.32, {}, 17_444_777, 1293.17,
                 reasons=("mebibytes", "macs")),
    PublishedRow("UNet + DTC", "unet", {**_TWO_D, "upsampling": "dtc+linear"}, 67.25, 40.52, {}, 17_627_473, 1231.17,
                 reasons=("mebibytes", "macs", "offset_layer")),
)  # fmt: skip

PUBLISHED_TABLES: tuple[PublishedTable, ...] = (
    PublishedTable("Deconver, Table I: ISLES'22", ("isles22",), (64, 64, 64), "M", "K/voxel", "deepspeed", _ROWS_1),
    PublishedTable("Deconver, Table II: BraTS'23", ("brats23",), (128, 128, 128), "M", "K/voxel", "deepspeed", _ROWS_2),
    PublishedTable("Deconver, Table III: GlaS and FIVES", ("glas", "fives"), (512, 512), "M", "K/voxel", "deepspeed",
                   _ROWS_3),
    PublishedTable("Deconver, Table IV: source channels R", ("isles22",), (64, 64, 64), "M", "K/voxel", "deepspeed",
                   _ROWS_4),
    PublishedTable("Deconver, Table V: groups G", ("isles22",), (64, 64, 64), "M", "K/voxel", "deepspeed", _ROWS_5),
    PublishedTable("DTC, Table 7: upsampling in a U-Net", (), (256, 256), "MiB", "G", "ptflops", _ROWS_7),
)  # fmt: skip
