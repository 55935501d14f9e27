"""The metrics against the packages they must equal, and against what must hold for any masks."""

import math
import warnings

import nibabel as nib
import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_hausdorff_distance,
    get_confusion_matrix,
)
from PIL import Image
from scipy import ndimage

from deconvseg.errors import InputError
from deconvseg.evaluation import (
    average_surface_distance,
    dice,
    evaluate_masks,
    hausdorff95,
    list_metrics,
    normalized_surface_dice,
)
from deconvseg.evaluation.metrics import TOLERANCE_SLACK

spacings = st.floats(0.2, 5.0).map(lambda x: round(x, 2))


@st.composite
def mask_pairs(draw, empty=False):
    dims = draw(st.sampled_from((2, 3)))
    # A volume of a single slice is measured in 2D: TestSingleSlices.
    shape = draw(hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=dims - 1, max_side=7))
    masks = [draw(hnp.arrays(np.bool_, shape)) for _ in range(2)]
    if not empty:
        for mask in masks:
            mask[draw(st.tuples(*(st.integers(0, n - 1) for n in shape)))] = True
    return *masks, tuple(draw(spacings) for _ in shape)


def monai_hd95(truth, prediction, spacing):
    both = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    distance = compute_hausdorff_distance(*both, include_background=True, percentile=95, spacing=list(spacing))
    return float(distance)


def reference_nsd(truth, prediction, spacing, tolerance):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance))


def perturbed(mask, seed=0):
    """A plausible prediction: moved, its rim eaten and grown, a piece of noise added."""
    rng = np.random.default_rng(seed)
    moved = np.roll(mask, (1, -2), axis=(0, 1))
    noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), 1.0)
    grown, eaten = ndimage.binary_dilation(moved), ndimage.binary_erosion(moved)
    return np.where(noise > 0, grown, eaten) | (noise > 4.5 * noise.std())


class TestAgainstOtherPackages:
    @settings(deadline=None, max_examples=60)
    @given(mask_pairs())
    def test_hd95_is_monais(self, pair):
        truth, prediction, spacing = pair
        assert hausdorff95(truth, prediction, spacing) == pytest.approx(
            monai_hd95(truth, prediction, spacing), rel=1e-6, abs=1e-6
        )

    @settings(deadline=None, max_examples=60)
    @given(mask_pairs(), st.floats(0.0, 6.0).map(lambda x: round(x, 2)))
    def test_nsd_is_that_of_surface_distance(self, pair, tolerance):
        truth, prediction, spacing = pair
        expected = reference_nsd(truth, prediction, spacing, tolerance * (1 + TOLERANCE_SLACK))
        assert normalized_surface_dice(truth, prediction, spacing, tolerance) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        ("file", "labels"),
        [
            ("hippocampus/labelsTr/hippocampus_001.nii.gz", (1, 2)),
            ("hippocampus/labelsTr/hippocampus_003.nii.gz", (1, 2)),
            ("isles22_case0009/sub-strokecase0009_ses-0001_msk.nii.gz", (1,)),
            ("ms_lesion_mni/patient07_seg.nii.gz", (1,)),
            ("ms_lesion_mni/patient26_seg.nii.gz", (1,)),
            ("chase_db1/masks/Image_04R.png", None),
            ("isic2017_mini/masks/ISIC_0014489_segmentation.png", None),
        ],
    )
    def test_real_masks(self, real_data, file, labels):
        pixels, spacing = read_real(real_data / file)
        for label in labels or (int(pixels.max()),):
            truth = pixels == label
            assert truth.any()
            for prediction in (perturbed(truth), perturbed(truth, seed=1)):
                assert hausdorff95(truth, prediction, spacing) == pytest.approx(
                    monai_hd95(truth, prediction, spacing), rel=1e-6, abs=1e-6
                )
                for tolerance in (0.5, 1.0, 2.0):
                    assert normalized_surface_dice(truth, prediction, spacing, tolerance) == pytest.approx(
                        reference_nsd(truth, prediction, spacing, tolerance), abs=1e-6
                    )


def measure_all(truth, prediction, spacing, **options):
    masks = (np.asarray(mask).astype(np.uint8) for mask in (truth, prediction))
    (row,) = evaluate_masks(*masks, {1: "a"}, spacing=spacing, metrics="all", **options).values()
    return row


def monai_rate(name, truth, prediction):
    # MONAI adds the masks: booleans would never give 2.
    both = [torch.from_numpy(mask.astype(np.uint8))[None, None] for mask in (prediction, truth)]
    return float(compute_confusion_matrix_metric(name, get_confusion_matrix(*both, include_background=True)))


class TestFurtherMetrics:
    """ASSD, RVD, sensitivity, precision and specificity."""

    @settings(deadline=None, max_examples=60)
    @given(mask_pairs())
    def test_assd_is_that_of_monai_and_of_medpy(self, pair):
        binary = pytest.importorskip("medpy.metric.binary")
        truth, prediction, spacing = pair
        both = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
        found = measure_all(truth, prediction, spacing)["assd"]
        assert found == average_surface_distance(truth, prediction, spacing)
        expected = compute_average_surface_distance(
            *both, include_background=True, symmetric=True, spacing=list(spacing)
        )
        assert found == pytest.approx(float(expected), rel=1e-6, abs=1e-6)
        assert found == pytest.approx(binary.assd(prediction, truth, voxelspacing=spacing), rel=1e-9, abs=1e-9)

    @settings(deadline=None, max_examples=60)
    @given(mask_pairs())
    def test_rates_and_volumes_are_those_of_monai_and_of_medpy(self, pair):
        binary = pytest.importorskip("medpy.metric.binary")
        truth, prediction, spacing = pair
        row = measure_all(truth, prediction, spacing)
        for name in ("sensitivity", "precision", "specificity"):
            if name == "specificity" and truth.all():
                assert row[name] == 1.0
                continue
            assert row[name] == pytest.approx(monai_rate(name, truth, prediction), rel=1e-6)
            assert row[name] == pytest.approx(getattr(binary, name)(prediction, truth), rel=1e-12)
        assert row["rvd"] == pytest.approx(binary.ravd(prediction, truth), rel=1e-12)

    def test_ignored_voxels_are_no_true_negatives(self):
        truth, prediction = np.array([[1, 0, 0, 9]]), np.array([[1, 1, 0, 1]])
        masks = truth, prediction, {1: "a"}
        row = evaluate_masks(*masks, spacing=(1.0, 1.0), ignored=truth == 9, metrics="specificity")[1]
        assert row["specificity"] == 0.5
        assert evaluate_masks(*masks, spacing=(1.0, 1.0), metrics="specificity")[1]["specificity"] == pytest.approx(
            1 / 3
        )

    @settings(deadline=None, max_examples=30)
    @given(mask_pairs(empty=True), st.sampled_from((0.25, 0.5, 2.0, 4.0)))
    def test_lengths_scale_with_spacing_and_the_rest_stays(self, pair, factor):
        truth, prediction, spacing = pair
        row = measure_all(truth, prediction, spacing, tolerance=1.5)
        wider = measure_all(truth, prediction, tuple(factor * x for x in spacing), tolerance=factor * 1.5)
        for metric in list_metrics():
            scale = factor if metric.unit == "length" else 1.0
            expected = None if row[metric.key] is None else pytest.approx(scale * row[metric.key], rel=1e-6)
            assert wider[metric.key] == expected, metric.key

    @settings(deadline=None, max_examples=30)
    @given(mask_pairs(empty=True), st.integers(0, 2), spacings)
    def test_a_single_slice_is_measured_as_the_picture(self, pair, axis, thickness):
        truth, prediction, spacing = pair
        if truth.ndim == 3:
            truth, prediction, spacing = truth[0], prediction[0], spacing[1:]
        if 1 in truth.shape:
            truth, prediction = (np.pad(mask, 1) for mask in (truth, prediction))
        volume = [np.expand_dims(mask, axis) for mask in (truth, prediction)]
        row = measure_all(*volume, [*spacing[:axis], thickness, *spacing[axis:]])
        picture = measure_all(truth, prediction, spacing)
        for metric in list_metrics():
            assert row[metric.key] == picture[metric.key], metric.key
        assert [row[f"lesions_{name}"] for name in ("found", "missed", "false")] == [
            picture[f"lesions_{name}"] for name in ("found", "missed", "false")
        ]

    @settings(deadline=None, max_examples=25)
    @given(mask_pairs(empty=True))
    def test_a_mask_against_itself_is_perfect(self, pair):
        mask, _, spacing = pair
        row = measure_all(mask, mask, spacing)
        for metric in list_metrics():
            perfect = 1.0 if metric.better == "higher" else 0.0
            assert row[metric.key] == (perfect if mask.any() or metric.key != "hd95_defined" else None), metric.key

    def test_each_of_a_thousand_classes_is_measured_as_its_own_mask(self):
        rng = np.random.default_rng(0)
        truth = np.kron(rng.integers(1, 1001, (12, 12, 6)), np.ones((2, 2, 2), int))
        prediction = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 1001, truth.shape))
        rows = evaluate_masks(
            truth, prediction, {value: str(value) for value in range(1, 1001)}, spacing=(1, 1, 3), metrics="all"
        )
        assert len(rows) == 1000
        for value in rng.integers(1, 1001, 12):
            alone = measure_all(truth == value, prediction == value, (1, 1, 3))
            assert {**rows[value], "name": ""} == {**alone, "name": ""}


class TestRoundedSpacing:
    """A distance of exactly the tolerance is within it, however the spacing was stored."""

    @settings(deadline=None, max_examples=40)
    @given(
        st.floats(0.05, 6.0),
        st.integers(1, 3),
        st.integers(0, 2),
        st.sampled_from((0.0, 3e-8, -3e-8, 1e-6, -1e-6, 3e-5)),
    )
    def test_a_shift_by_the_tolerance(self, length, steps, axis, noise):
        truth = np.zeros((12, 12, 12), bool)
        truth[3:7, 3:7, 3:7] = True
        spacing = [length * (1 + noise), length, length]
        moved = np.roll(truth, steps, axis)
        tolerance = steps * length
        assert normalized_surface_dice(truth, moved, spacing, tolerance) == 1.0
        assert normalized_surface_dice(truth, moved, np.float32(spacing), tolerance) == 1.0
        assert normalized_surface_dice(truth, moved, spacing, tolerance * 0.999) < 1.0

    def test_a_turned_grid(self):
        from deconvseg.data import Geometry

        angle = np.radians(17.0)
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([0.8, 0.8, 2.5])
        spacing = Geometry(affine.astype(np.float32).astype(float)).spacing
        truth = np.zeros((12, 12, 6), bool)
        truth[3:7, 3:7, 1:4] = True
        for axis, tolerance in ((0, 0.8), (1, 0.8), (2, 2.5)):
            assert normalized_surface_dice(truth, np.roll(truth, 1, axis), spacing, tolerance) == 1.0


class TestSingleSlices:
    """A volume with one voxel along an axis is that slice, whichever axis it is."""

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(empty=True), st.integers(0, 2), spacings)
    def test_distances_are_those_of_the_picture(self, pair, axis, thickness):
        truth, prediction, spacing = pair
        if truth.ndim == 3:
            truth, prediction, spacing = truth[0], prediction[0], spacing[1:]
        volume = [np.expand_dims(mask, axis) for mask in (truth, prediction)]
        steps = [*spacing[:axis], thickness, *spacing[axis:]]
        if 1 not in truth.shape:
            assert measure(*volume, steps) == measure(truth, prediction, spacing)
        (row,) = evaluate_masks(*(mask.astype(np.uint8) for mask in volume), {1: "a"}, spacing=steps).values()
        assert (row["dsc"], row["hd95"], row["nsd"]) == measure(*volume, steps)
        assert row["volume_truth"] == pytest.approx(truth.sum() * np.prod(steps))

    @settings(deadline=None, max_examples=25)
    @given(mask_pairs(), st.permutations(range(3)), st.integers(0, 1))
    def test_the_order_of_axes_does_not_matter_where_several_have_one_voxel(self, pair, order, thin):
        masks = [mask[(slice(None), *(slice(0, 1),) * (mask.ndim - 1))].reshape(-1, 1, 1) for mask in pair[:2]]
        spacing = (1.0, 0.5 + thin, 2.0)
        turned = [mask.transpose(order) for mask in masks]
        expected = measure(*masks, spacing)
        assert measure(*turned, [spacing[axis] for axis in order]) == pytest.approx(expected, abs=1e-9)

    def test_a_hole_in_the_middle_is_far_from_the_edge(self):
        truth = np.zeros((40, 40, 1), bool)
        truth[5:35, 5:35] = True
        prediction = truth.copy()
        prediction[13:27, 13:27] = False
        assert hausdorff95(truth, prediction, (1.0, 1.0, 5.0)) == hausdorff95(truth[..., 0], prediction[..., 0], (1, 1))
        assert hausdorff95(truth, prediction, (1.0, 1.0, 5.0)) > 5


class TestInvariants:
    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(empty=True))
    def test_symmetric_in_truth_and_prediction(self, pair):
        truth, prediction, spacing = pair
        assert measure(truth, prediction, spacing) == pytest.approx(measure(prediction, truth, spacing), abs=1e-12)

    @settings(deadline=None, max_examples=25)
    @given(mask_pairs(empty=True))
    def test_a_mask_against_itself_is_perfect(self, pair):
        mask, _, spacing = pair
        assert measure(mask, mask, spacing) == (1.0, 0.0, 1.0)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=3))
    def test_the_place_in_the_image_does_not_matter(self, pair, margins):
        truth, prediction, spacing = pair
        padding = margins[: truth.ndim]
        moved = measure(np.pad(truth, padding), np.pad(prediction, padding), spacing)
        assert moved == pytest.approx(measure(truth, prediction, spacing), abs=1e-12)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(empty=True), st.sampled_from((0.25, 0.5, 2.0, 4.0)))
    def test_distances_scale_with_spacing_and_the_rest_stays(self, pair, factor):
        truth, prediction, spacing = pair
        overlap, distance, surface = measure(truth, prediction, spacing, tolerance=1.5)
        scaled = measure(truth, prediction, tuple(factor * x for x in spacing), tolerance=factor * 1.5)
        assert scaled == pytest.approx((overlap, factor * distance, surface), rel=1e-6)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(empty=True), st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
    def test_axes_may_be_reordered_with_their_spacing_and_flipped(self, pair, order, flips):
        truth, prediction, spacing = pair
        axes = [axis for axis in order if axis < truth.ndim]
        flipped = [axis for axis in range(truth.ndim) if flips[axis]]
        turned = [np.flip(mask.transpose(axes), flipped) for mask in (truth, prediction)]
        overlap, distance, _ = measure(truth, prediction, spacing)
        assert measure(*turned, [spacing[axis] for axis in axes])[:2] == pytest.approx((overlap, distance), abs=1e-9)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs(), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
    def test_nsd_grows_with_the_tolerance_to_one(self, pair, first, second):
        truth, prediction, spacing = pair
        low, high = sorted((first, second))
        wide = math.dist(np.multiply(truth.shape, spacing), np.zeros(truth.ndim)) + max(spacing)
        values = [normalized_surface_dice(truth, prediction, spacing, t) for t in (low, high, wide)]
        assert 0.0 <= values[0] <= values[1] <= values[2] == pytest.approx(1.0)

    @settings(deadline=None, max_examples=40)
    @given(mask_pairs())
    def test_dice_is_two_intersections_over_the_sum(self, pair):
        truth, prediction, _ = pair
        assert dice(truth, prediction) == 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())


class TestEmptyMasks:
    shape, spacing = (4, 5, 6), (1.0, 2.0, 0.5)
    diagonal = math.sqrt(4.0**2 + 10.0**2 + 3.0**2)

    @pytest.mark.parametrize(
        ("truth", "prediction", "expected"),
        [
            (False, False, (1.0, 0.0, 1.0)),
            (True, False, (0.0, diagonal, 0.0)),
            (False, True, (0.0, diagonal, 0.0)),
        ],
    )
    def test_the_rule(self, truth, prediction, expected):
        masks = [np.zeros(self.shape, bool) for _ in range(2)]
        masks[0][1, 2, 3], masks[1][1, 2, 3] = truth, prediction
        assert measure(*masks, self.spacing) == pytest.approx(expected)


class TestBadInput:
    def test_different_shapes(self):
        with pytest.raises(InputError, match=r"\(3, 4\), the prediction \(4, 3\): one grid is needed"):
            dice(np.zeros((3, 4), bool), np.zeros((4, 3), bool))

    @pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf)])
    def test_spacing(self, spacing):
        with pytest.raises(InputError, match="spacing needs 2 positive numbers"):
            hausdorff95(np.zeros((3, 4), bool), np.zeros((3, 4), bool), spacing)

    @pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
    def test_tolerance(self, tolerance):
        with pytest.raises(InputError, match="tolerance must be a distance of 0 or more"):
            normalized_surface_dice(np.zeros((3, 4), bool), np.zeros((3, 4), bool), (1.0, 1.0), tolerance)

    def test_dimensions(self):
        with pytest.raises(InputError, match="masks are 2D or 3D"):
            dice(np.zeros(3, bool), np.zeros(3, bool))


def measure(truth, prediction, spacing, tolerance=1.0):
    return (
        dice(truth, prediction),
        hausdorff95(truth, prediction, spacing),
        normalized_surface_dice(truth, prediction, spacing, tolerance),
    )


def read_real(path):
    if path.name.endswith(".nii.gz"):
        volume = nib.load(path)
        return np.asanyarray(volume.dataobj).round().astype(int), tuple(map(float, volume.header.get_zooms()[:3]))
    pixels = np.asarray(Image.open(path).convert("L")).astype(int)
    return pixels, (1.0, 1.0)
