"""What a preset fixes of the way of an image to the network, and what a user replaces."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvseg.catalog import PRESETS
from deconvseg.data import open_dataset, resolve_splits
from deconvseg.errors import InputError
from deconvseg.planning import Plan, StepCost, explain, read_plan
from deconvseg.planning import make_plan as make_measured_plan

COST = StepCost(seconds=0.1, base=0, memory=2**30, inference=2**20, parameters=1000)


def make_plan(*args: object, **options: object) -> Plan:
    """Plan without measuring."""
    return make_measured_plan(*args, measure=lambda *_, **__: COST, memory=8 << 30, device="cpu", **options)


def plan_of(folder: Path, preset: str, **options: object) -> Plan:
    data = open_dataset(folder)
    return make_plan(data, resolve_splits(data, None, fold=0), preset=preset, **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images of odd sizes, with masks."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        shape = (61 + index, 83)
        mask = np.zeros(shape, np.uint8)
        mask[20:40, 30:50] = 255
        pixels = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"c{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"c{index}.png")
    return root


def test_a_preset_fixes_the_preprocessing_and_says_whose_it_is(balls: Path) -> None:
    plan = plan_of(balls, "isles22")
    assert (plan.spacing, plan.crop_margin, plan.normalise_first, plan.resize) == ((2.0, 2.0, 2.0), 10, True, None)
    assert {channel.normalisation for channel in plan.channels} == {"zscore_nonzero"}
    for key in ("spacing", "crop_margin", "normalise_first", "channel T1"):
        assert plan.reasons[key] == "preset isles22: the authors' public configuration"
    rows = [row for section in explain(plan) for row in section.rows]
    assert ("cropped to", "the non-zero box and 10 around it", plan.reasons["crop_margin"]) in rows
    assert ("normalised", "before resampling", plan.reasons["normalise_first"]) in rows


def test_values_that_are_given_replace_those_of_a_preset(balls: Path) -> None:
    values = {"spacing": [1.0, 1.0, 2.0], "crop_margin": None, "normalise_first": False}
    plan = plan_of(balls, "isles22", values=values)
    assert (plan.spacing, plan.crop_margin, plan.normalise_first) == ((1.0, 1.0, 2.0), None, False)
    assert {"spacing", "crop_margin", "normalise_first"} <= set(plan.changed_by_hand)


def test_pictures_are_resized_as_in_dtc_and_keep_their_size_in_glas(pictures: Path) -> None:
    plan = plan_of(pictures, "isic", model="unet")
    assert (plan.resize, plan.spacing) == ((256, 256), (1.0, 1.0))
    assert plan.reasons["resize"] == "preset isic: the paper"
    assert plan.reasons["spacing"].startswith("not used, as every image is resized; ")
    glas = plan_of(pictures, "glas")
    assert (glas.resize, glas.crop_margin, glas.spacing) == (None, None, (1.0, 1.0))
    assert {channel.normalisation for channel in glas.channels} == {"zscore_nonzero"}


def test_a_size_that_is_requested_decides_the_patch(pictures: Path) -> None:
    data = open_dataset(pictures)
    parts = resolve_splits(data, None, fold=0)
    plan = make_plan(data, parts, model="unet", values={"resize": 32})
    assert (plan.resize, plan.patch_size) == ((32, 32), (32, 32))
    assert plan.reasons["resize"] == "as requested"
    assert make_plan(data, parts, preset="isic", model="unet", values={"resize": None}).resize is None
    for wrong, message in (([32], "give 2 numbers for 2D images"), ([0, 32], "resize.0"), (["a", 3], "resize.0")):
        with pytest.raises(InputError, match=message):
            make_plan(data, parts, model="unet", values={"resize": wrong})


def test_a_plan_of_an_older_version_has_none_of_it(tmp_path: Path, plan: Plan) -> None:
    tree = json.loads(plan.model_dump_json())
    for key in ("resize", "crop_margin", "normalise_first"):
        del tree[key]
    del tree["recipe"]["augmentation"]["padding"]
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_one_number_for_each_axis(name: str) -> None:
    preset = PRESETS[name]
    for values in (preset.spacing, preset.resize):
        assert values is None or len(values) == preset.ends["spatial_dims"]
