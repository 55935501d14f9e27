"""Losses by name, as recipes and ``--set recipe.loss`` give them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.losses import (
    DiceCELoss,
    SegmentationLoss,
    SumLoss,
    Truth,
    create_loss,
    list_losses,
    register_loss,
    registry,
)
from losses.samples import REGIONS, sample


def test_a_name_is_that_loss_with_the_options_that_it_has() -> None:
    loss = create_loss("dice_ce", regions=REGIONS, ignore_id=3, squared=True, batch=True)
    assert isinstance(loss, DiceCELoss)
    assert (loss.regions, loss.ignore_id) == (REGIONS, 3)
    assert loss.title == "soft Dice (squared) over the batch + cross-entropy"
    # It has neither, and is given neither.
    assert create_loss("ce", squared=True, batch=True).title == "cross-entropy"


def test_an_option_that_is_given_goes_before_the_recipes() -> None:
    assert create_loss({"kind": "dice", "batch": False}, batch=True).title == "soft Dice over the patch"


def test_a_list_is_the_weighted_sum() -> None:
    logits, labels = sample(0, 3, (8, 8), 3)
    spec = ["dice_ce", {"kind": "cldice", "iterations": 2, "weight": 0.5}]
    loss = create_loss(json.loads(json.dumps(spec)), batch=True)
    assert isinstance(loss, SumLoss)
    parts = [create_loss("dice_ce", batch=True), create_loss({"kind": "cldice", "iterations": 2}, batch=True)]
    expected = parts[0](logits, labels) + 0.5 * parts[1](logits, labels)
    torch.testing.assert_close(loss(logits, labels), expected)
    assert loss.title.endswith(" + 0.5 x clDice (2 thinnings) over the batch")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("focla", r"loss 'focla' is unknown: did you mean 'focal'\?"),
        ({"kind": "focal", "gama": 1}, "loss focal has no option 'gama': its options are alpha, class_weights, gamma$"),
        ({"kind": "focal", "gamma": -1}, "gamma -1: give 0 or more"),
        ({"kind": "focal", "gamma": "much"}, "loss focal: an option of .*'much'.* has the wrong type"),
        ({"kind": "focal", "gamma": float("inf")}, "gamma inf: give 0 or more"),
        ({"kind": "dice", "batch": "false"}, "'false'.* has the wrong type .batch is not of the kind of its default"),
        ({"kind": "dice", "smoothing": True}, "an option of .*True.* has the wrong type"),
        ({"kind": "cldice", "iterations": 2.5}, "iterations 2.5: give a whole number of 0 or more"),
        ({"kind": "dice", "class_weights": []}, r"class_weights \[\]: give one of 0 or more each"),
        ({"kind": "dice", "class_weights": "12"}, "class_weights .*: give one of 0 or more each"),
        ({"kind": "dice", "class_weights": [1, float("inf")]}, "class_weights .*: give one of 0 or more"),
        ({"kind": "tversky", "alpha": 0, "beta": 0}, "alpha 0, beta 0: give weights of 0 or more, not both of 0"),
        ({"kind": "tversky", "alpha": float("nan")}, "alpha nan, beta 0.7: give weights"),
        ({"kind": "dice_ce", "dice_weight": 0, "ce_weight": 0}, "weights .*: give one of 0 or more each, not all of 0"),
        ([{"kind": "dice", "weight": float("nan")}], r"weights \[nan\]: give one of 0 or more"),
        ({"kind": "focal", "alpha": 2}, "alpha 2: give a number from 0 to 1"),
        ({"kind": "tversky", "beta": -0.1}, "beta -0.1: give weights of 0 or more"),
        ({"kind": "dice", "smoothing": 0}, "smoothing 0: give a number above 0"),
        ({"kind": "hausdorff", "alpha": 0}, "alpha 0: give a number above 0"),
        ({"kind": "cldice", "iterations": -1}, "iterations -1: give a whole number of 0 or more"),
        ({"kind": "dice", "regions": [[1]]}, "loss dice: regions is the plan's; leave it out"),
        ({"gamma": 1}, "give a name, or a mapping with its kind; known are ce, "),
        ([], r"loss \[\]: give a name, a mapping with a kind, or a list of them"),
        (3, "loss 3: give a name"),
        (["dice", {"kind": "ce", "weight": "1"}], "give a number as weight"),
        (["dice", {"kind": "ce", "weight": -1}], r"weights \[1.0, -1\]: give one of 0 or more"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        create_loss(spec)
    assert "\n" not in str(error.value)


def test_weights_that_leave_no_class_are_refused() -> None:
    logits, labels = sample(0, 3, (4, 4), 3)
    with pytest.raises(InputError, match="no class but the background has a weight above 0"):
        create_loss({"kind": "dice", "class_weights": [1, 0, 0]})(logits, labels)


def test_parts_of_a_sum_share_regions_and_ignored_voxels() -> None:
    with pytest.raises(InputError, match="all with the same regions and ignore_id"):
        SumLoss([create_loss("dice"), create_loss("ce", ignore_id=3)])


def test_a_loss_of_ones_own_takes_a_class_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_LOSSES", dict(registry._LOSSES))

    @register_loss("brier")
    class Brier(SegmentationLoss):
        def __init__(self, *, scale: float = 1.0, **common: Any) -> None:
            super().__init__(**common)
            self.scale = scale

        @property
        def title(self) -> str:
            return "Brier score"

        def compare(self, logits: torch.Tensor, truth: Truth) -> torch.Tensor:
            probabilities, masks = self.structures(logits, truth)
            return self.scale * (probabilities - masks).square().mean()

    logits, labels = sample(0, 2, (4, 4), 3)
    loss = create_loss({"kind": "brier", "scale": 2}, regions=REGIONS, batch=True)
    masks = torch.stack([labels > 0, labels > 1], dim=1).float()
    torch.testing.assert_close(loss(logits, labels), 2 * (logits.sigmoid() - masks).square().mean())
    with pytest.raises(ValueError, match="a loss named 'brier' is already registered"):
        register_loss("brier")(Brier)
    with pytest.raises(InputError, match="loss brier has no option 'size': its options are class_weights, "):
        create_loss({"kind": "brier", "size": 2})


def test_the_pages_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_LOSSES", dict(registry._LOSSES))
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "losses.md").read_text(encoding="utf-8")
    logits, labels = sample(0, 3, (8, 8), 4)
    names: dict[str, Any] = {"logits": logits, "half_size_logits": logits[..., ::2, ::2], "labels": labels}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    assert names["value"].isfinite()
    assert create_loss("brier")(logits, labels.clamp_max(2)) > 0
    for spec in re.findall(r"--set '?recipe\.loss=([^'\n]*)", page):
        assert create_loss(json.loads(spec) if spec[0] in "[{" else spec).title


def test_every_loss_has_a_row_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "losses.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \| `\w+Loss`", page, re.MULTILINE)) == list_losses()
