"""What the report says about a plan is what the plan says."""

import pytest

from deconvseg.reporting.facts import describe_plan
from plans import tiny_plan


def rows(**changes):
    return {
        choice: (value, reason) for choice, value, reason in describe_plan(tiny_plan(**changes).model_dump(mode="json"))
    }


def test_every_choice_of_a_plan_is_a_row():
    found = rows(reasons={"patch_size": "the whole image", "labels": "as declared", "recipe.epochs": "15 minutes"})
    assert found["Dataset"] == ("discs", "")
    assert found["Spatial dimensions"] == ("2", "")
    assert found["Spacing"] == ("1 × 1", "")
    assert found["Patch size"] == ("32 × 32", "the whole image")
    assert found["Patches per step"] == ("2", "")
    assert found["Channel grey"] == ("normalised by zscore", "")
    assert found["Classes"] == ("0 background, 255 disc", "as declared")
    assert found["Network"] == ("deconver", "")
    assert found["Epochs"] == ("2", "15 minutes")
    assert found["Steps per epoch"] == ("3", "")
    assert found["Learning rate"] == ("0.003", "")
    assert {"Recipe", "Weight decay"} <= found.keys()


@pytest.mark.parametrize(("foreground", "ending"), [(True, " (every label > 0)"), (False, "")])
def test_a_plan_that_takes_every_label_as_one_class_says_so(foreground, ending):
    labels = {"values": [0, 1], "names": ["background", "foreground"], "foreground_only": foreground}
    assert rows(labels=labels)["Classes"][0] == f"0 background, 1 foreground{ending}"


def test_regions_are_named_with_their_classes():
    labels = {"values": [0, 1, 2], "names": ["background", "rim", "core"]}
    regions = [{"name": "whole", "labels": [1, 2], "paints": 1}, {"name": "core", "labels": [2], "paints": 2}]
    found = rows(labels=labels, regions=regions)
    assert (found["Region whole"][0], found["Region core"][0]) == ("classes 1, 2", "classes 2")
