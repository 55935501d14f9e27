"""Thresholds: what a mask becomes with one, and how many each voxel passes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.inference import Rule, labels_from_maps
from deconvseg.planning import Plan
from deconvseg.runs import GRID
from plans import nested_plan, plan_of

PLANS = {"one class": plan_of(2, 2, (8, 8), (1, 1)), "classes": plan_of(2, 4, (8, 8), (1, 1)), "regions": nested_plan()}
kinds, seeds, thresholds = st.sampled_from(list(PLANS)), st.integers(0, 2**31), st.sampled_from(GRID)


def random_maps(plan: Plan, seed: int, *, logits: bool) -> Tensor:
    """Maps (K, 12, 9) with ties and certain voxels among them; as of one network, or the mean of two."""
    torch.manual_seed(seed)
    maps = torch.randn(2, plan.outputs, 12, 9) * 3
    maps[:, :, 0] = 0
    maps[:, 0, 1] = 40
    if logits:
        return maps[0]
    return torch.stack([torch.sigmoid(each) if plan.regions else torch.softmax(each, 0) for each in maps]).mean(0)


def members(plan: Plan, place: int) -> tuple[int, ...]:
    return (place + 1,) if plan.regions is None else tuple(plan.regions[place].labels)


@settings(deadline=None, max_examples=40)
@given(kinds, seeds, st.booleans())
def test_without_a_threshold_and_at_a_half_the_mask_is_the_one_of_the_largest(
    kind: str, seed: int, logits: bool
) -> None:
    plan = PLANS[kind]
    maps = random_maps(plan, seed, logits=logits)
    expected = labels_from_maps(maps, plan, threshold=0.0 if logits else 0.5)
    assert np.array_equal(Rule(plan).ids(maps, logits=logits), expected)
    if kind != "classes":
        assert np.array_equal(Rule(plan, 0.5).ids(maps, logits=logits), expected)
        assert np.array_equal(Rule(plan, {plan.output_names[-1]: 0.5}).ids(maps, logits=logits), expected)


@settings(deadline=None, max_examples=40)
@given(kinds, seeds, st.booleans(), thresholds, thresholds)
def test_a_mask_shrinks_as_the_threshold_grows(kind: str, seed: int, logits: bool, one: float, other: float) -> None:
    plan = PLANS[kind]
    maps = random_maps(plan, seed, logits=logits)
    low, high = sorted([one, other])
    assert not ((Rule(plan, high).ids(maps, logits=logits) > 0) & (Rule(plan, low).ids(maps, logits=logits) == 0)).any()
    for place, name in enumerate(plan.output_names):
        ids = [Rule(plan, {name: value}).ids(maps, logits=logits) for value in (low, high)]
        larger, smaller = (np.isin(part, members(plan, place)) for part in ids)
        assert not (smaller & ~larger).any()


@settings(deadline=None, max_examples=40)
@given(kinds, seeds, st.booleans(), thresholds)
def test_levels_are_the_masks_at_every_threshold(kind: str, seed: int, logits: bool, threshold: float) -> None:
    plan = PLANS[kind]
    maps = random_maps(plan, seed, logits=logits)
    levels = Rule(plan).levels(maps, logits=logits)
    assert levels.shape == (len(plan.output_names), 12, 9)
    for place, name in enumerate(plan.output_names):
        rule = Rule(plan, {name: threshold})
        if plan.regions is None:
            mask = np.isin(rule.ids(maps, logits=logits), members(plan, place))
        else:
            mask = rule.separate(maps, logits=logits)[plan.painting_order.index(place)].numpy()
        assert np.array_equal(levels[place] > GRID.index(threshold), mask)


@settings(deadline=None, max_examples=40)
@given(seeds, st.booleans(), thresholds)
def test_each_region_is_thresholded_by_itself(seed: int, logits: bool, threshold: float) -> None:
    plan = PLANS["regions"]
    maps = random_maps(plan, seed, logits=logits)
    bound = np.float32(np.log(threshold / (1 - threshold)) if logits else threshold)
    found = Rule(plan, threshold).separate(maps, logits=logits)
    named = dict(zip([structure.name for structure in plan.structures], found, strict=True))
    for name, one in zip(plan.output_names, maps, strict=True):
        assert torch.equal(named[name], one > torch.tensor(bound))
    # Painted, a region also has what is in the regions inside it.
    painted = Rule(plan, threshold).ids(maps, logits=logits)
    assert np.array_equal(np.isin(painted, (1, 2, 3)), found.any(0).numpy())


@settings(deadline=None, max_examples=30)
@given(seeds, thresholds)
def test_of_several_classes_one_number_is_about_the_foreground(seed: int, threshold: float) -> None:
    plan = PLANS["classes"]
    p = random_maps(plan, seed, logits=False).numpy()
    expected = np.where(1 - p[0] > np.float32(threshold), 1 + p[1:].argmax(0), 0)
    assert np.array_equal(Rule(plan, threshold).ids(torch.from_numpy(p), logits=False), expected)


def test_named_classes_go_before_the_others_and_the_likelier_before_the_less_likely() -> None:
    plan = PLANS["classes"]
    columns = [(0.6, 0.2, 0.1, 0.1), (0.3, 0.25, 0.15, 0.3), (0.1, 0.1, 0.2, 0.6), (0.1, 0.5, 0.3, 0.1)]
    maps = torch.tensor(columns).T[:, None]
    rule = Rule(plan, {"1": 0.19, "2": 0.28})
    # Above its threshold alone; the same although "3" is likelier; none of the two; both, and "1" is likelier.
    assert rule.ids(maps, logits=False).tolist() == [[1, 1, 3, 1]]
    # A named class that is not above its threshold is out, although it is the largest.
    assert Rule(plan, {"1": 0.55}).ids(maps, logits=False)[0, 3] == 2


@pytest.mark.parametrize(
    "threshold, text",
    [
        (0, "`threshold=0`: give a number between 0 and 1"),
        (1.0, "`threshold=1.0`"),
        (float("nan"), "`threshold=nan`"),
        (True, "`threshold=True`"),
        ({}, "`threshold={}`"),
        ({"tumour": 0.3}, "there is no class 'tumour'; the classes are 1, 2, 3"),
        ({"0": 0.3}, "there is no class '0'"),
        ({"1": 2}, "2 for 1; give a number between 0 and 1"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(threshold: object, text: str) -> None:
    with pytest.raises(InputError, match=text.replace("{}", r"\{\}")):
        Rule(PLANS["classes"], threshold)  # type: ignore[arg-type]


def test_the_order_of_names_makes_no_difference() -> None:
    one, other = ({"1": 0.3, "3": 0.4}, {"3": 0.4, "1": 0.3})
    assert str(Rule(PLANS["classes"], one).threshold) == str(Rule(PLANS["classes"], other).threshold)
