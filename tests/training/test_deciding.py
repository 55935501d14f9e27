"""The plan that a training carries out, held against the cases that it trains on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from deconvseg.data import Splits, open_dataset
from deconvseg.errors import InputError
from deconvseg.planning import Plan, plan_cropping, take_fingerprint
from deconvseg.training import Silent, TrainOptions, decide_plan
from plans import tiny_plan


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def pictures(root: Path, image: np.ndarray, mask: np.ndarray) -> Path:
    for folder, pixels in (("images", image), ("masks", mask * 255)):
        (root / folder).mkdir(parents=True)
        for number in range(3):
            PillowImage.fromarray(pixels.astype(np.uint8)).save(root / folder / f"case{number}.png")
    return root


def decide(root: Path, plan: Plan, **options: object) -> tuple[Plan, list[str]]:
    data, told = open_dataset(root), Listening()
    return decide_plan(
        data, Splits(data.names, (), ()), TrainOptions(str(root), plan=plan, **options), told
    ), told.lines


def padded_image(background: int, foreground: int) -> tuple[np.ndarray, np.ndarray]:
    """Tissue in the middle, and a mask that reaches from it into the background at one side."""
    image = np.full((32, 40), background)
    image[8:24, 10:30] = 100
    mask = np.zeros_like(image)
    mask[10:20, 2:15] = 1
    image[mask > 0] = foreground
    return image, mask


@pytest.mark.parametrize(
    ("background", "foreground", "cropped"), [(0, 0, False), (0, 90, True), (7, 0, True), (7, 90, True)]
)
def test_prediction_is_cropped_only_where_no_training_mask_lies_outside_of_the_non_zero_box(
    tmp_path: Path, background: int, foreground: int, cropped: bool
) -> None:
    root = pictures(tmp_path, *padded_image(background, foreground))
    allowed, reason = plan_cropping(take_fingerprint(open_dataset(root)))
    assert allowed == cropped
    assert ("3 of 3 masks" in reason) != cropped
    plan, told = decide(root, tiny_plan(crop_to_nonzero=True))
    assert plan.crop_to_nonzero == cropped
    assert any("no cropping to the non-zero box: 3 of 3 masks" in line for line in told) != cropped
    assert plan.changed_by_hand == ()


def test_an_image_of_zeros_with_a_mask_is_not_cropped(tmp_path: Path) -> None:
    mask = padded_image(0, 0)[1]
    assert not decide(pictures(tmp_path, np.zeros_like(mask), mask), tiny_plan(crop_to_nonzero=True))[0].crop_to_nonzero


def test_cropping_that_is_asked_for_by_hand_is_held_against_the_masks_too(tmp_path: Path) -> None:
    root = pictures(tmp_path, *padded_image(0, 0))
    plan, told = decide(root, tiny_plan(), values={"crop_to_nonzero": True})
    assert not plan.crop_to_nonzero
    assert any("no cropping" in line for line in told)


def test_channels_and_labels_changed_by_values_are_matched_too(balls: Path) -> None:
    both = [{"name": "T2"}, {"name": "T1"}]
    model = {"name": "deconver", "config": {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8]}}
    volumes = {"spatial_dims": 3, "spacing": [1.0, 1.0, 2.0], "patch_size": [16, 16, 8], "model": model}
    labels = {"values": [0, 3, 7], "names": ["background", "shell", "core"]}
    given = tiny_plan(**volumes, labels=labels, channels=[{"name": "T1"}, {"name": "T2"}])
    plan, told = decide(balls, given, values={"channels": both, "labels.names": ["background", "core", "shell"]})
    assert [channel.name for channel in plan.channels] == ["T1", "T2"]
    assert plan.labels.values == (0, 7, 3)
    assert any(line.startswith("note: the plan's channels T2, T1 are taken") for line in told)
    assert any(line.startswith("note: the plan's labels get the dataset's values") for line in told)
    with pytest.raises(InputError, match="has the labels shell 3, core 7, but the plan is for shell 3, rim 7"):
        decide(balls, given, values={"labels.names": ["background", "shell", "rim"]})


def test_a_plan_with_regions_that_no_mask_can_hold_is_refused(discs: Path, tmp_path: Path) -> None:
    tree = tiny_plan().model_dump(mode="json")
    tree["labels"] = {"values": [0, 1, 2, 4], "names": ["background", "a", "b", "c"]}
    parts = [{"name": "left", "labels": [1, 2], "paints": 1}, {"name": "right", "labels": [2, 3], "paints": 3}]
    (tmp_path / "plan.json").write_text(json.dumps({**tree, "regions": parts}))
    message = r"plan\.json: plan: regions: a mask cannot hold these regions: voxels of 2 .* written as 4"
    with pytest.raises(InputError, match=message):
        decide_plan(
            open_dataset(discs),
            Splits((), (), ()),
            TrainOptions(str(discs), plan=str(tmp_path / "plan.json")),
            Silent(),
        )
