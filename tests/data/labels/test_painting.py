"""The order in which regions are painted, and regions that one mask cannot hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import Paint, check_painting, painting_order
from deconvseg.errors import InputError


def paint(regions: list[Paint], truth: np.ndarray) -> np.ndarray:
    """What is written of a perfect prediction."""
    mask = np.zeros_like(truth)
    for place in painting_order(regions):
        mask[np.isin(truth, list(regions[place].labels))] = regions[place].written_as
    return mask


def is_held(regions: list[Paint]) -> bool:
    try:
        check_painting(regions, "regions", "change them")
    except InputError:
        return False
    return True


@st.composite
def painted_regions(draw: st.DrawFn) -> list[Paint]:
    regions = []
    for number in range(draw(st.integers(1, 4))):
        labels = draw(st.frozensets(st.integers(1, 5), min_size=1))
        regions.append(Paint(f"r{number}", labels, draw(st.sampled_from(sorted(labels)))))
    return regions


@given(painted_regions())
def test_accepted_regions_are_all_read_back_from_their_mask_and_refused_ones_are_not(regions: list[Paint]) -> None:
    truth = np.arange(6)
    mask = paint(regions, truth)
    intact = all(np.array_equal(np.isin(mask, list(r.labels)), np.isin(truth, list(r.labels))) for r in regions)
    assert intact == is_held(regions)


@given(painted_regions())
def test_no_region_is_painted_before_one_that_contains_it(regions: list[Paint]) -> None:
    order = painting_order(regions)
    assert sorted(order) == list(range(len(regions)))
    for earlier, place in enumerate(order):
        assert not any(regions[place].labels < regions[later].labels for later in order[earlier + 1 :])


@given(st.permutations([({1, 2, 3}, 1), ({2, 3}, 2), ({3}, 3)]))
def test_nested_regions_are_held_in_whatever_order_they_are_declared(declared: list[tuple[set[int], int]]) -> None:
    regions = [Paint(str(labels), frozenset(labels), value) for labels, value in declared]
    assert is_held(regions)
    assert paint(regions, np.arange(4)).tolist() == [0, 1, 2, 3]


def test_disjoint_and_equal_regions_keep_their_order() -> None:
    disjoint = [Paint("b", frozenset({2}), 2), Paint("a", frozenset({1}), 1)]
    equal = [Paint("x", frozenset({1, 2}), 2), Paint("y", frozenset({1, 2}), 1)]
    assert painting_order(disjoint) == painting_order(equal) == (0, 1)
    assert is_held(disjoint)
    assert is_held(equal)


def test_regions_that_overlap_in_part_are_refused_by_name() -> None:
    regions = [Paint("left", frozenset({1, 2}), 1), Paint("right", frozenset({2, 3}), 3)]
    with pytest.raises(InputError, match=r"d\.json: .* voxels of 2 belong to 'left' and 'right', .* as 3, .* 'left'"):
        check_painting(regions, "d.json", "change them")
