"""The networks of DTC (arXiv 2601.17939): Tables 1 to 6 on ISIC, BUSI and BTCV, with nnU-Net's plan for BTCV.

The receptive fields are those of sections 4.1 and 4.2; the paper does not give that of nnU-Net. Table 6's sums have the
field of the U-Net with linear interpolation. nnU-Net's plan (Isensee et al., Nature Methods 2021) is that for its task
17, in canonical order of the axes, so its coarse axis is the last. It follows from nnU-Net's rules: an axis is halved
with the others once it is less than twice as coarse as the finest, as long as four voxels remain, and its convolutions
have a size of 3 from then on; the patch is the largest, in the proportions of the median scan of 512 x 512 x 148
voxels, that fits into its 8 GB for two samples.
"""

from collections.abc import Mapping
from typing import Any

from deconvseg.catalog.preset_types import Preset, Variant

_COLOUR = {"in_channels": 3, "out_channels": 1, "spatial_dims": 2}
# Table 4, in its order: the components of the predicted coordinates, of which the offset is always present. All of them
# are the usual DTC.
_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "offset": (),
    "offset, tanh": ("tanh",),
    "weight, offset": ("weight",),
    "weight, offset, tanh": ("weight", "tanh"),
    "weight, sigmoid, offset": ("weight", "sigmoid"),
}
_FIELDS = ("inf", 10, 2, 1)


def _with_dtc(base: str, receptive_field: float | str, **further: Any) -> dict[str, Any]:
    return {"upsampling": {"kind": f"dtc+{base}", "receptive_field": receptive_field, **further}}


def _generations(base: str, field: float | str, sizes: tuple[int, int]) -> dict[str, Variant]:
    """Return Table 4's rows but the last; the sizes are those without and with weights."""
    return {
        f"UNet, {base}, with DTC: {name}": Variant(
            "unet", sizes["weight" in parts], _with_dtc(base, field, components=parts)
        )
        for name, parts in _COMPONENTS.items()
    }


def _fields(name: str, model: str, base: str, own: float | str, parameters: int) -> dict[str, Variant]:
    """Return Table 5's row of a network, without its own receptive field, which another variant has."""
    return {
        f"{name} with DTC, receptive field {field}": Variant(model, parameters, _with_dtc(base, field))
        for field in _FIELDS
        if field != own
    }


def _of_images(linear: float | str, transposed: float, segmamba: float, swin: float) -> Preset:
    """Return the networks of Tables 1, 2 and 4 to 6 for the receptive fields of one dataset."""
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
            "UNet, DySample": Variant("unet", 17_293_825, {"upsampling": "dysample"}),
            "UNet, DySample, with DTC": Variant("unet", 17_658_321, _with_dtc("dysample", linear)),
            "UNet, FADE": Variant("unet", 17_444_777, {"upsampling": "fade"}),
            "UNet, FADE, with DTC": Variant("unet", 17_809_273, _with_dtc("fade", linear)),
            **_generations("linear", linear, (17_619_785, 17_627_473)),
            **_generations("transposed", transposed, (31_750_281, 31_765_649)),
            **_fields("UNet, linear,", "unet", "linear", linear, 17_627_473),
            **_fields("UNet, transposed,", "unet", "transposed", transposed, 31_765_649),
        },
        patch_size=(256, 256),
        batch_size=None,
        epochs=None,
        recipe="dtc",
        resize=(256, 256),
    )


DTC_PRESETS: Mapping[str, Preset] = {
    "isic": _of_images(linear=10, transposed=10, segmamba=4, swin=2),
    "busi": _of_images(linear="inf", transposed=10, segmamba=10, swin=4),
    "btcv": Preset(
        ends={"in_channels": 1, "out_channels": 14, "spatial_dims": 3},
        networks={
            "nnunet": {
                "widths": (32, 64, 128, 256, 320, 320),
                "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 1)),
                "kernel_size": ((3, 3, 1), *((3, 3, 3),) * 5),
                "norm": "instance_affine",
                **_with_dtc("transposed", 2),
            },
            "unetr": {"image_size": (192, 192, 48), **_with_dtc("transposed", 2)},
            # Trained without deep supervision (section 4.2).
            "nnmamba": {"deep_supervision_heads": 0, **_with_dtc("linear", 1)},
        },
        variants={
            "nnU-Net": Variant("nnunet", 30_753_006, {"upsampling": "transposed"}),
            "nnU-Net with DTC": Variant("nnunet", 31_024_172),
            "UNETR": Variant("unetr", 101_953_102, {"upsampling": "transposed"}),
            "UNETR with DTC": Variant("unetr", 102_251_590),
            "nnMamba": Variant("nnmamba", 15_955_684, {"upsampling": "linear"}),
            "nnMamba with DTC": Variant("nnmamba", 16_066_268),
            **_fields("UNETR", "unetr", "transposed", 2, 102_251_590),
            **_fields("nnMamba", "nnmamba", "linear", 1, 16_066_268),
        },
        patch_size=(192, 192, 48),
        batch_size=2,
        epochs=1000,
        recipe="nnunet",
        spacing=(0.76, 0.76, 3.0),
    ),
}
