"""Lesions that are found, missed and false: against a reference by hand, against medpy, and where lesions merge."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from deconvseg.errors import InputError
from deconvseg.evaluation import count_lesions, evaluate_masks
from deconvseg.evaluation.lesions import LesionRule


@st.composite
def mask_pairs(draw):
    dims = draw(st.sampled_from((2, 3)))
    shape = draw(hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=2, max_side=7))
    density = draw(st.sampled_from((0.15, 0.3, 0.5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < density, rng.random(shape) < density


def flood(mask):
    """Return the lesions of a mask as sets of voxels, by walking from voxel to neighbour."""
    rest, lesions = {tuple(place) for place in np.argwhere(mask)}, []
    steps = list(product((-1, 0, 1), repeat=mask.ndim))
    while rest:
        lesion, reached = set(), [rest.pop()]
        while reached:
            place = reached.pop()
            lesion.add(place)
            near = {tuple(np.add(place, step)) for step in steps} & rest
            rest -= near
            reached += near
        lesions.append(lesion)
    return lesions


def reference(truth, prediction, voxel, overlap, sizes):
    """Return the counts, lesion by lesion as the rule is written."""
    groups = LesionRule(overlap, sizes).groups
    counts = {name: {"found": 0, "missed": 0, "false": 0} for name in ("all", *groups)}
    sides = ((truth, prediction, "found", "missed"), (prediction, truth, None, "false"))
    for mask, other, good, bad in sides:
        for lesion in flood(mask):
            common = sum(bool(other[place]) for place in lesion)
            verdict = good if common >= 1 and common / len(lesion) >= overlap - 1e-12 else bad
            of_size = [groups[sum(len(lesion) * voxel >= bound - 1e-9 for bound in sizes)]] if sizes else []
            for name in ("all", *of_size):
                if verdict:
                    counts[name][verdict] += 1
    return counts


class TestTheRule:
    @settings(deadline=None, max_examples=80)
    @given(
        mask_pairs(),
        st.sampled_from((0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0)),
        st.sampled_from(((), (2.0,), (1.0, 4.0, 9.0))),
    )
    def test_it_is_the_reference(self, pair, overlap, sizes):
        truth, prediction = pair
        spacing = (0.5, 1.0, 3.0)[: truth.ndim]
        found = count_lesions(truth, prediction, spacing, overlap=overlap, sizes=sizes)
        assert found == reference(truth, prediction, float(np.prod(spacing)), overlap, sizes)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs())
    def test_it_is_medpys_where_every_lesion_meets_at_most_one(self, pair):
        binary = pytest.importorskip("medpy.metric.binary")
        truth, prediction = pair
        footprint = np.ones((3,) * truth.ndim)
        (one, n_truth), (other, n_found) = (ndimage.label(mask, footprint) for mask in pair)
        assume(n_truth and n_found)
        met = {(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True) if a and b}
        assume(len({a for a, _ in met}) == len(met) == len({b for _, b in met}))
        counts = count_lesions(truth, prediction, (1.0,) * truth.ndim)["all"]
        # medpy 0.5.2 divides by the objects of its first argument, against what its documentation says.
        assert counts["found"] / n_truth == binary.obj_tpr(truth, prediction, connectivity=truth.ndim)
        assert counts["false"] / n_found == binary.obj_fpr(truth, prediction, connectivity=truth.ndim)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(), st.sampled_from((0.0, 0.3, 1.0)))
    def test_classes_of_size_part_the_lesions_and_the_sides_mirror(self, pair, overlap):
        truth, prediction = pair
        spacing = (1.0,) * truth.ndim
        counts = count_lesions(truth, prediction, spacing, overlap=overlap, sizes=(2, 3, 8))
        for name in ("found", "missed", "false"):
            assert counts["all"][name] == sum(group[name] for key, group in counts.items() if key != "all")
        back = count_lesions(prediction, truth, spacing, overlap=overlap)["all"]
        assert counts["all"]["missed"] == back["false"]
        assert counts["all"]["found"] + counts["all"]["missed"] == len(flood(truth))

    def test_lesions_that_touch_at_a_corner_are_one(self):
        corners = np.eye(3, dtype=bool)
        nothing = np.zeros_like(corners)
        assert count_lesions(corners, nothing, (1, 1))["all"]["missed"] == 1
        cube = np.zeros((4, 4, 4), bool)
        cube[[0, 1, 3], [0, 1, 3], [0, 1, 3]] = True
        assert count_lesions(cube, ~cube & False, (1, 1, 1))["all"]["missed"] == 2


class TestMergesAndSplits:
    def test_one_prediction_over_two_lesions_finds_both(self):
        truth, prediction = np.zeros((2, 9, 3), bool)
        truth[1:3], truth[6:8], prediction[1:8] = True, True, True
        assert count_lesions(truth, prediction, (1, 1))["all"] == {"found": 2, "missed": 0, "false": 0}
        # At least half of the prediction must be true for it to be no false one.
        assert count_lesions(truth, prediction, (1, 1), overlap=0.6)["all"] == {"found": 2, "missed": 0, "false": 1}

    def test_a_lesion_in_two_pieces_is_found_once(self):
        truth, prediction = np.zeros((2, 9, 3), bool)
        truth[1:8], prediction[1:3], prediction[6:8] = True, True, True
        assert count_lesions(truth, prediction, (1, 1))["all"] == {"found": 1, "missed": 0, "false": 0}
        # The pieces together cover 4 of 7 rows, neither of them alone covers half.
        assert count_lesions(truth, prediction, (1, 1), overlap=0.5)["all"] == {"found": 1, "missed": 0, "false": 0}
        assert count_lesions(truth, prediction, (1, 1), overlap=0.6)["all"] == {"found": 0, "missed": 1, "false": 0}

    def test_exactly_the_minimum_is_enough(self):
        for share in (0.1, 0.3, 0.57, 0.7):
            truth, prediction = np.zeros((2, 2, 100), bool)
            truth[0], prediction[0, : round(100 * share)] = True, True
            assert count_lesions(truth, prediction, (1, 1), overlap=share)["all"]["found"] == 1
            assert count_lesions(truth, prediction, (1, 1), overlap=share + 1e-6)["all"]["found"] == 0


class TestSizes:
    def test_they_are_volumes_in_the_unit_of_the_spacing(self):
        truth, prediction = np.zeros((2, 12, 12, 3), bool)
        truth[1:3, 1:3, 1], truth[6:10, 6:10, :] = True, True
        prediction[1, 1, 1] = prediction[11, 1, 0] = True
        # 4 voxels of 2.5 mm³, 48 voxels; a false one of one voxel.
        counts = count_lesions(truth, prediction, (0.5, 1.0, 5.0), sizes=(10, 100))
        assert counts["below 10"] == {"found": 0, "missed": 0, "false": 1}
        assert counts["10 to 100"] == {"found": 1, "missed": 0, "false": 0}
        assert counts["from 100"] == {"found": 0, "missed": 1, "false": 0}

    def test_rounding_of_the_spacing_moves_no_lesion_to_another_class(self):
        truth = np.zeros((8, 8, 4), bool)
        truth[1:3, 1:3, 1:3] = True
        for noise in (0.0, -1e-7, 1e-7):
            spacing = np.float32((0.7, 0.7, 1.3)) * (1 + noise)
            counts = count_lesions(truth, truth, spacing, sizes=(8 * 0.7 * 0.7 * 1.3,))
            assert counts[list(counts)[-1]]["found"] == 1

    def test_columns_and_the_score(self):
        truth, prediction = np.zeros((2, 9, 9), np.uint8)
        truth[1, 1], truth[4, 4], prediction[1, 1], prediction[7, 7] = 1, 1, 1, 1
        row = evaluate_masks(truth, prediction, {1: "a"}, spacing=(1, 1), metrics="lesion_f1", lesion_sizes=(2,))[1]
        assert row["lesion_f1"] == 0.5
        names = ("found", "missed", "false")
        assert [row[f"lesions_{name}"] for name in names] == [1, 1, 1]
        assert [row[f"lesions_{name}_below_2"] for name in names] == [1, 1, 1]
        assert [row[f"lesions_{name}_from_2"] for name in names] == [0, 0, 0]


class TestBadInput:
    @pytest.mark.parametrize("sizes", [(0,), (-1, 2), (3, 2), (2, 2), (float("nan"),), (float("inf"),), "10"])
    def test_bounds(self, sizes):
        with pytest.raises(InputError, match="`lesion_sizes` are positive sizes in ascending order"):
            LesionRule(sizes=sizes)

    @pytest.mark.parametrize("overlap", [-0.1, 1.1, float("nan"), "0.5"])
    def test_overlap(self, overlap):
        with pytest.raises(InputError, match="`lesion_overlap` is a share between 0 and 1"):
            LesionRule(overlap)
