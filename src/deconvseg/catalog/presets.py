"""Configurations that the papers compare: one preset for each dataset.

Sources: Deconver (arXiv 2504.00302, section IV-A); for ``isles26`` "Deconver for Stroke Lesion Segmentation" (SWITCH
2026); for ``isic``, ``busi`` and ``btcv`` DTC with its receptive fields (arXiv 2601.17939, Tables 1 to 3, sections 4.1
and 4.2).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """A network of a preset: its registered model, exact parameter count, and arguments that override the preset's.

    Example:
        >>> from deconvseg.catalog import PRESETS
        >>> PRESETS["isles22"].variants["Deconver, filters of 3"].parameters
        10476545

    """

    model: str
    parameters: int
    arguments: Mapping[str, Any] = {}


class Preset(NamedTuple):
    """The networks that a paper compares on a dataset, and how it trained them.

    ``ends`` holds the constructor arguments shared by all networks (channels and spatial axes), ``networks`` the other
    arguments of each registered model. ``variants`` holds all networks of the paper under the paper's names.
    ``patch_size`` is in voxels or pixels; ``batch_size`` and ``epochs`` are None where the paper does not state them.
    ``recipe`` is the name of the paper's recipe. ``regions`` maps the names of overlapping outputs to the labels that
    they unite, the outermost first; None stands for one output for each class. The others are the preprocessing:
    ``spacing`` in mm, a ``resize`` of whole images in pixels, ``crop_margin`` in voxels around the nonzero voxels, and
    ``normalisation`` of the intensities (``"zscore_nonzero"``: over the nonzero voxels of each channel), with
    ``normalise_first`` before resampling; None leaves each to the data. Axes are in canonical order, RAS in 3D.

    Example:
        >>> from deconvseg.catalog import PRESETS
        >>> PRESETS["isles22"].arguments("deconver")
        {'in_channels': 2, 'out_channels': 1, 'spatial_dims': 3, 'widths': (64, 128, 256, 512)}

    """

    ends: Mapping[str, int]
    networks: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Variant]
    patch_size: tuple[int, ...]
    batch_size: int | None
    epochs: int | None
    recipe: str = "paper"
    regions: Mapping[str, tuple[str, ...]] | None = None
    spacing: tuple[float, ...] | None = None
    resize: tuple[int, ...] | None = None
    crop_margin: int | None = None
    normalisation: str | None = None
    normalise_first: bool = False

    def arguments(self, model: str) -> dict[str, Any]:
        """Return all constructor arguments of one of the ``networks``."""
        return {**self.ends, **self.networks[model]}


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


def _with_dtc(base: str, receptive_field: float | str) -> dict[str, Any]:
    return {"upsampling": {"kind": f"dtc+{base}", "receptive_field": receptive_field}}


def _of_dtc(linear: float | str, transposed: float, segmamba: float, swin: float) -> Preset:
    """Return the networks of DTC's Tables 1 and 2 for the receptive fields of one dataset."""
    return Preset(
        ends=_COLOUR,
        networks={
            "unet": _with_dtc("linear", linear),
            "segmamba": _with_dtc("transposed", segmamba),
            "swin_unetr_v2": _with_dtc("transposed", swin),
        },
        variants={
            "UNet, linear": Variant("unet", 17_262_977, {"upsampling": "linear"}),
            "UNet, linear, with DTC": Variant("unet", 17_627_473),
            "UNet, transposed": Variant("unet", 31_037_633, {"upsampling": "transposed"}),
            "UNet, transposed, with DTC": Variant("unet", 31_765_649, _with_dtc("transposed", transposed)),
            "SegMamba": Variant("segmamba", 26_498_065, {"upsampling": "transposed"}),
            "SegMamba with DTC": Variant("segmamba", 26_913_521),
            "SwinUNETR-V2": Variant("swin_unetr_v2", 28_664_395, {"upsampling": "transposed"}),
            "SwinUNETR-V2 with DTC": Variant("swin_unetr_v2", 29_082_975),
        },
        patch_size=(256, 256),
        batch_size=None,
        epochs=None,
        recipe="dtc",
        resize=(256, 256),
    )


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
    "isic": _of_dtc(linear=10, transposed=10, segmamba=4, swin=2),
    "busi": _of_dtc(linear="inf", transposed=10, segmamba=10, swin=4),
    # The paper gives neither the patch size nor nnU-Net's receptive field; both are choices of this package.
    "btcv": Preset(
        ends={"in_channels": 1, "out_channels": 14, "spatial_dims": 3},
        networks={
            "nnunet": _with_dtc("transposed", 2),
            "unetr": {"image_size": (96, 96, 96), **_with_dtc("transposed", 2)},
            "nnmamba": _with_dtc("linear", 1),
        },
        variants={
            "nnU-Net": Variant("nnunet", 22_572_334, {"upsampling": "transposed"}),
            "nnU-Net with DTC": Variant("nnunet", 22_792_998),
            "UNETR": Variant("unetr", 101_787_214, {"upsampling": "transposed"}),
            "UNETR with DTC": Variant("unetr", 102_085_702),
            "nnMamba": Variant("nnmamba", 15_955_684, {"upsampling": "linear"}),
            "nnMamba with DTC": Variant("nnmamba", 16_066_268),
        },
        patch_size=(96, 96, 96),
        batch_size=None,
        epochs=None,
    ),
}
