"""Smaller patches on which the network of a preset is measured on a CPU."""

import pytest
import torch

from deconvseg.catalog import PRESETS
from deconvseg.models import create_model, preset_arguments
from deconvseg.planning.candidates import halve

# The size is an argument of the first ones; the last accepts any multiple of its strides.
NETWORKS = [("brats23", "unetr"), ("fives", "unetr"), ("isles22", "factorizer"), ("isles22", "deconver")]


@pytest.mark.parametrize(("preset", "model"), NETWORKS)
def test_the_network_of_a_preset_accepts_every_smaller_patch(preset: str, model: str) -> None:
    patch, config = PRESETS[preset].patch_size, preset_arguments(model, preset)
    while (halved := halve(model, config, patch)) is not None:
        smaller, config = halved
        assert all(new in (old, old // 2) for new, old in zip(smaller, patch, strict=True))
        assert smaller != patch
        patch = smaller
        with torch.device("meta"):
            multiple = create_model(model, **config).size_multiple
        assert not any(length % step for length, step in zip(patch, multiple, strict=True))


def test_the_shortest_axis_stays_where_its_half_is_refused() -> None:
    config = preset_arguments("unetr", "btcv")
    first = halve("unetr", config, (192, 192, 48))
    assert first is not None
    assert first[0] == (96, 96, 48)
    assert first[1]["image_size"] == [96, 96, 48]
