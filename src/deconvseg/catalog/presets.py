"""The configurations of Deconver (arXiv 2504.00302, section IV-A), one for each of its datasets."""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    """A network of a paper, and how the paper trained it.

    ``network`` holds constructor arguments of the registered model ``model``; ``patch_size`` is in voxels,
    ``parameters`` gives the exact number of parameters for each NDC kernel size that the paper reports.
    """

    model: str
    network: dict[str, Any]
    patch_size: tuple[int, ...]
    batch_size: int
    epochs: int
    parameters: dict[int, int]


_RETINA_AND_GLANDS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 1,
    "spatial_dims": 2,
    "widths": (32, 64, 128, 256, 512, 512),
}

PRESETS: dict[str, Preset] = {
    "isles22": Preset(
        model="deconver",
        network={"in_channels": 2, "out_channels": 1, "spatial_dims": 3, "widths": (64, 128, 256, 512)},
        patch_size=(64, 64, 64),
        batch_size=8,
        epochs=500,
        parameters={3: 10_476_545, 5: 11_028_481},
    ),
    "brats23": Preset(
        model="deconver",
        network={"in_channels": 4, "out_channels": 3, "spatial_dims": 3, "widths": (32, 64, 128, 256, 512)},
        patch_size=(128, 128, 128),
        batch_size=2,
        epochs=300,
        parameters={3: 10_553_859, 5: 11_130_883},
    ),
    "glas": Preset(
        model="deconver",
        network=_RETINA_AND_GLANDS,
        patch_size=(256, 256),
        batch_size=8,
        epochs=500,
        parameters={3: 20_635_041, 5: 20_794_785},
    ),
    "fives": Preset(
        model="deconver",
        network=_RETINA_AND_GLANDS,
        patch_size=(512, 512),
        batch_size=8,
        epochs=500,
        parameters={3: 20_635_041, 5: 20_794_785},
    ),
}
