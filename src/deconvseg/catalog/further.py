"""Networks without a published cost: those of the other presets, and those that belong to no preset.

Sources: for ISLES'26 "Deconver for Stroke Lesion Segmentation" (SWITCH 2026); for DTC arXiv 2601.17939, Tables 1 to 3.
"""

from collections.abc import Mapping
from typing import Any

from deconvseg.catalog.presets import PRESETS
from deconvseg.catalog.published import PublishedRow, PublishedTable

# Millions of parameters, Dice (%) and HD95 by name of the preset's variants. The paper does not print the ensemble's
# HD95 or the scores of the residual nnU-Net.
ISLES26: Mapping[str, tuple[float, float | None, float | None]] = {
    "nnU-Net": (22.57, 62.54, 22.56),
    "nnU-Net, residual": (22.75, None, None),
    "SegResNet": (75.17, 63.00, 21.91),
    "SwinUNETR-V2": (72.76, 62.41, 22.78),
    "Deconver, 64 channels, 1-2-2-4": (25.46, 63.59, 22.77),
    "Deconver, 64 channels, 1-2-2-4-4": (52.77, 63.56, 22.49),
    "Deconver, 64 channels, 1-1-1-1-1": (24.23, 63.40, 22.95),
    "Deconver, 32 channels, 1-1-1-1-1": (10.55, 62.99, 22.83),
    "Deconver, 32 channels, 1-1-1-1-1-1": (24.30, 62.91, 22.80),
    "Deconver, 32 channels, 1-1-1-1-1, filters of 5": (11.13, 62.85, 23.19),
    "Deconver, 32 channels, 1-2-2-4": (6.46, 62.76, 22.54),
    "SegResNet and Deconver": (100.63, 64.44, None),
}


def _table(title: str, presets: tuple[str, ...], size: tuple[int, ...], *rows: PublishedRow) -> PublishedTable:
    return PublishedTable(title, presets, size, "M", "K/voxel", None, rows)


def _of_preset(title: str, *presets: str) -> PublishedTable:
    """Return a table of all networks of the first preset; the others differ from it only in receptive fields.

    Of variants of one network that have the same size, which differ in receptive fields or activations, it has one row.
    """
    first, seen = PRESETS[presets[0]], set[tuple[str, int]]()
    rows = []
    for name, variant in first.variants.items():
        if (variant.model, variant.parameters) in seen:
            continue
        seen.add((variant.model, variant.parameters))
        row = PublishedRow(name, variant.model, variant.arguments, parameters=variant.parameters, preset=presets[0])
        rows.append(row)
    return _table(title, presets, first.patch_size, *rows)


def _isles26() -> PublishedTable:
    table = _of_preset("Deconver for ISLES'26", "isles26")
    rows = (
        row._replace(published_parameters=printed, scores={"ISLES'26": (dice, hd95)} if dice and hd95 else {})
        for row, (printed, dice, hd95) in ((row, ISLES26[row.system]) for row in table.rows)
    )
    return table._replace(rows=tuple(rows))


def _alone(name: str, model: str, spatial_dims: int, parameters: int, **network: Any) -> PublishedRow:
    ends = {"in_channels": 1, "out_channels": 2, "spatial_dims": spatial_dims}
    return PublishedRow(name, model, {**ends, **network}, parameters=parameters)


def _upsampled(name: str, parameters: int, kind: str, **options: Any) -> PublishedRow:
    network = {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "upsampling": {"kind": kind, **options}}
    return PublishedRow(name, "unet", network, parameters=parameters)


FURTHER_TABLES: tuple[PublishedTable, ...] = (
    _isles26(),
    _of_preset("DTC, Tables 1 and 2: ISIC, and BUSI at other receptive fields of the same cost", "isic", "busi"),
    _of_preset("DTC, Table 3: BTCV", "btcv"),
    _table(
        "Other upsampling in the U-Net of DTC, Table 7",
        (),
        (256, 256),
        _upsampled("UNet, transposed", 31_037_633, "transposed"),
        _upsampled("UNet, pixel shuffle", 53_322_753, "pixelshuffle"),
        _upsampled("UNet + CARAFE", 17_555_473, "carafe"),
        _upsampled("UNet + SAPA", 17_328_513, "sapa"),
        _upsampled("UNet + SAPA, inner product", 17_266_817, "sapa", similarity="inner"),
        _upsampled("UNet + SAPA, gated", 17_360_325, "sapa", similarity="gated"),
        _upsampled("UNet + DTC, in place of linear", 28_979_409, "dtc"),
        _upsampled("UNet + DTC, 4 heads, learned receptive fields", 17_673_633, "dtc+linear", heads=4, learnable=True),
    ),
    _table(
        "In no table, 3D",
        (),
        (64, 64, 64),
        _alone("nnU-Net, residual encoder", "nnunet_resenc", 3, 102_348_226),
        _alone("UNet++", "unet_plus_plus", 3, 6_977_794),
        _alone("MedNeXt S", "mednext", 3, 5_550_914, size="S"),
        _alone("MedNeXt B", "mednext", 3, 10_510_850, size="B"),
        _alone("MedNeXt M", "mednext", 3, 17_533_506, size="M"),
        _alone("MedNeXt L", "mednext", 3, 61_726_754, size="L"),
        _alone("SegMamba", "segmamba", 3, 67_361_954),
    ),
    _table(
        "In no table, 2D",
        (),
        (256, 256),
        _alone("nnU-Net, residual encoder", "nnunet_resenc", 2, 71_814_658),
        _alone("UNet++", "unet_plus_plus", 2, 2_408_130),
        _alone("MedNeXt S", "mednext", 2, 5_472_002, size="S"),
        _alone("MedNeXt B", "mednext", 2, 10_431_938, size="B"),
        _alone("MedNeXt M", "mednext", 2, 17_402_754, size="M"),
        _alone("MedNeXt L", "mednext", 2, 61_503_842, size="L"),
        _alone("nnMamba", "nnmamba", 2, 5_855_992),
        _alone("Factorizer", "factorizer", 2, 5_938_946),
    ),
)
