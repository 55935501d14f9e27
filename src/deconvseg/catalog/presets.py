"""Configurations that the papers compare: one preset for each dataset.

Sources: Deconver (arXiv 2504.00302, section IV-A); for ``isles26`` "Deconver for Stroke Lesion Segmentation" (SWITCH
2026). Those of DTC are in :mod:`~deconvseg.catalog.dtc_presets`.
"""

from collections.abc import Mapping
from typing import Any

from deconvseg.catalog.dtc_presets import DTC_PRESETS
from deconvseg.catalog.preset_types import Preset, Variant

_WIDTHS_4 = (64, 128, 256, 512)
_WIDTHS_5 = (32, 64, 128, 256, 512)
_WIDTHS_6 = (32, 64, 128, 256, 512, 512)
_DEPTHS_4 = (1, 2, 2, 4)
_DEPTHS_5 = (1, 2, 2, 4, 4)
_ISLES26_BEST = {"widths": _WIDTHS_4, "depths": _DEPTHS_4}
_ISLES26_SEGRESNET = {"upsampling": "linear"}
# BraTS'23 labels the necrotic core, the oedema and the enhancing tumour.
_TUMOUR_REGIONS = {"WT": ("NCR", "ED", "ET"), "TC": ("NCR", "ET"), "ET": ("ET",)}
_ZSCORE = "zscore_nonzero"
_COLOUR = {"in_channels": 3, "out_channels": 1, "spatial_dims": 2}


def _networks(widths: tuple[int, ...], patch_size: tuple[int, ...]) -> dict[str, Mapping[str, Any]]:
    """Return the networks of Tables I to III; the models' defaults are the paper's values of all other arguments."""
    return {
        "deconver": {"widths": widths},
        "nnunet": {"widths": widths},
        "segresnet": {"init_filters": 64},
        "unetr": {"feature_size": 32, "image_size": patch_size},
        "swin_unetr": {"feature_size": 48},
    }


def _variants(deconver: tuple[int, int], nnunet: int, segresnet: int, unetr: int, swin: int) -> dict[str, Variant]:
    """Return the networks of Tables I to III with their sizes; Deconver's are for filters of 3 and of 5."""
    return {
        "nnU-Net": Variant("nnunet", nnunet),
        "SegResNet": Variant("segresnet", segresnet),
        "UNETR": Variant("unetr", unetr),
        "Swin UNETR": Variant("swin_unetr", swin),
        "Deconver, filters of 3": Variant("deconver", deconver[0], {"kernel_size": 3}),
        "Deconver, filters of 5": Variant("deconver", deconver[1], {"kernel_size": 5}),
    }


PRESETS: Mapping[str, Preset] = {
    "isles22": Preset(
        ends={"in_channels": 2, "out_channels": 1, "spatial_dims": 3},
        networks={
            **_networks(_WIDTHS_4, (64, 64, 64)),
            "factorizer": {"widths": _WIDTHS_4, "window": 4, "image_size": (64, 64, 64)},
        },
        variants={
            **_variants((10_476_545, 11_028_481), 22_392_257, 75_858_945, 104_816_673, 62_188_387),
            "Factorizer": Variant("factorizer", 7_547_393),
            "Deconver, R = 1": Variant("deconver", 7_753_217, {"kernel_size": 3, "ratio": 1}),
            "Deconver, R = 2": Variant("deconver", 8_660_993, {"kernel_size": 3, "ratio": 2}),
            "Deconver, G = 1": Variant("deconver", 57_215_489, {"kernel_size": 3, "groups": 1}),
            "Deconver, G = 8": Variant("deconver", 16_185_857, {"kernel_size": 3, "groups": 8}),
        },
        patch_size=(64, 64, 64),
        batch_size=8,
        epochs=500,
        spacing=(2.0, 2.0, 2.0),
        crop_margin=10,
        normalisation=_ZSCORE,
        normalise_first=True,
    ),
    "brats23": Preset(
        ends={"in_channels": 4, "out_channels": 3, "spatial_dims": 3},
        networks={
            **_networks(_WIDTHS_5, (128, 128, 128)),
            "factorizer": {"widths": _WIDTHS_5, "window": 8, "image_size": (128, 128, 128)},
        },
        variants={
            **_variants((10_553_859, 11_130_883), 22_574_563, 75_862_531, 111_454_051, 62_191_941),
            "Factorizer": Variant("factorizer", 7_603_459),
        },
        patch_size=(128, 128, 128),
        batch_size=2,
        epochs=300,
        regions=_TUMOUR_REGIONS,
        spacing=(1.0, 1.0, 1.0),
        crop_margin=10,
        normalisation=_ZSCORE,
        normalise_first=True,
    ),
    "glas": Preset(
        ends=_COLOUR,
        networks=_networks(_WIDTHS_6, (256, 256)),
        variants=_variants((20_635_041, 20_794_785), 20_601_729, 25_525_569, 91_225_313, 25_139_275),
        patch_size=(256, 256),
        batch_size=8,
        epochs=500,
        normalisation=_ZSCORE,
    ),
    "fives": Preset(
        ends=_COLOUR,
        networks=_networks(_WIDTHS_6, (512, 512)),
        variants=_variants((20_635_041, 20_794_785), 20_601_729, 25_525_569, 91_815_137, 25_139_275),
        patch_size=(512, 512),
        batch_size=8,
        epochs=500,
        normalisation=_ZSCORE,
    ),
    "isles26": Preset(
        ends={"in_channels": 1, "out_channels": 1, "spatial_dims": 3},
        networks={
            "deconver": _ISLES26_BEST,
            "nnunet": {"widths": _WIDTHS_5},
            "segresnet": _ISLES26_SEGRESNET,
            "swin_unetr_v2": {"feature_size": 48},
            "ensemble": {
                "networks": (
                    {"name": "segresnet", "config": _ISLES26_SEGRESNET},
                    {"name": "deconver", "config": _ISLES26_BEST},
                ),
                "activation": "sigmoid",
            },
        },
        variants={
            "nnU-Net": Variant("nnunet", 22_571_905),
            "nnU-Net, residual": Variant("nnunet", 22_746_017, {"residual": True}),
            "SegResNet": Variant("segresnet", 75_168_641),
            "SwinUNETR-V2": Variant("swin_unetr_v2", 72_762_019),
            "Deconver, 64 channels, 1-2-2-4": Variant("deconver", 25_463_361),
            "Deconver, 64 channels, 1-2-2-4-4": Variant(
                "deconver", 52_767_297, {"widths": (*_WIDTHS_4, 512), "depths": _DEPTHS_5}
            ),
            "Deconver, 64 channels, 1-1-1-1-1": Variant(
                "deconver", 24_228_161, {"widths": (*_WIDTHS_4, 512), "depths": None}
            ),
            "Deconver, 32 channels, 1-1-1-1-1": Variant("deconver", 10_551_201, {"widths": _WIDTHS_5, "depths": None}),
            "Deconver, 32 channels, 1-1-1-1-1-1": Variant(
                "deconver", 24_304_545, {"widths": _WIDTHS_6, "depths": None}
            ),
            "Deconver, 32 channels, 1-1-1-1-1, filters of 5": Variant(
                "deconver", 11_128_225, {"widths": _WIDTHS_5, "depths": None, "kernel_size": 5}
            ),
            "Deconver, 32 channels, 1-2-2-4": Variant("deconver", 6_464_801, {"widths": _WIDTHS_5[:4]}),
            "SegResNet and Deconver": Variant("ensemble", 75_168_641 + 25_463_361),
        },
        patch_size=(128, 128, 128),
        batch_size=2,
        epochs=300,
        spacing=(1.0, 1.0, 1.0),
        crop_margin=10,
        normalisation=_ZSCORE,
    ),
    **DTC_PRESETS,
}
