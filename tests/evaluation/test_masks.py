"""All classes of one case at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvseg.errors import InputError
from deconvseg.evaluation import dice, evaluate_masks, hausdorff95, normalized_surface_dice

VALUES = (-3, 0, 2, 255, 70_000)


@st.composite
def label_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    pair = [draw(hnp.arrays(np.int64, shape, elements=st.sampled_from(VALUES))) for _ in range(2)]
    return *pair, tuple(draw(st.sampled_from((0.5, 1.0, 2.5))) for _ in shape)


class TestEvaluateMasks:
    @settings(deadline=None, max_examples=50)
    @given(label_pairs())
    def test_each_class_is_measured_as_its_own_mask(self, case):
        truth, prediction, spacing = case
        labels = {value: f"class {value}" for value in VALUES if value != 0}
        results = evaluate_masks(truth, prediction, labels, spacing=spacing, tolerance=1.0)
        assert list(results) == sorted(labels)
        for value, row in results.items():
            masks = truth == value, prediction == value
            assert row["name"] == labels[value]
            assert row["dsc"] == pytest.approx(dice(*masks))
            assert row["hd95"] == pytest.approx(hausdorff95(*masks, spacing))
            assert row["nsd"] == pytest.approx(normalized_surface_dice(*masks, spacing, 1.0))
            assert row["volume_truth"] == pytest.approx(masks[0].sum() * math.prod(spacing))
            assert row["volume_difference"] == pytest.approx(row["volume_prediction"] - row["volume_truth"])

    @settings(deadline=None, max_examples=50)
    @given(label_pairs())
    def test_counts_are_those_of_the_confusion_matrix(self, case):
        truth, prediction, spacing = case
        for value, row in evaluate_masks(truth, prediction, {2: "two", 255: "rest"}, spacing=spacing).items():
            true, predicted = truth == value, prediction == value
            expected = [(true & predicted), (~true & predicted), (true & ~predicted), (~true & ~predicted)]
            assert [row[key] for key in ("tp", "fp", "fn", "tn")] == [int(mask.sum()) for mask in expected]
            assert (row["n_truth"], row["n_prediction"]) == (int(true.sum()), int(predicted.sum()))
            union = row["tp"] + row["fp"] + row["fn"]
            assert row["iou"] == (row["tp"] / union if union else 1.0)

    @pytest.mark.parametrize(
        ("truth", "prediction", "status"),
        [(0, 0, "both empty"), (1, 0, "missed"), (0, 1, "spurious"), (1, 1, "ok")],
    )
    def test_status(self, truth, prediction, status):
        masks = [np.full((2, 3), value) for value in (truth, prediction)]
        assert evaluate_masks(*masks, {1: "a"}, spacing=(1.0, 1.0))[1]["status"] == status

    def test_ignored_voxels_count_nowhere(self):
        truth, prediction = np.array([[1, 1, 9, 9], [0, 0, 9, 0]]), np.array([[1, 0, 1, 1], [0, 0, 1, 1]])
        row = evaluate_masks(truth, prediction, {1: "a"}, spacing=(1.0, 1.0), ignored=truth == 9)[1]
        assert [row[key] for key in ("tp", "fp", "fn", "tn")] == [1, 1, 1, 2]

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64])
    def test_any_integer_type(self, dtype):
        truth = np.array([[1, 1, 0]], dtype=dtype)
        assert evaluate_masks(truth, truth[:, ::-1], {1: "a"}, spacing=(1.0, 1.0))[1]["dsc"] == 0.5

    def test_probabilities_are_refused(self):
        with pytest.raises(InputError, match="the prediction must hold integer labels, but it is float64"):
            evaluate_masks(np.ones((2, 2), int), np.full((2, 2), 0.5), {1: "a"}, spacing=(1.0, 1.0))
