"""Each loss against MONAI's with the same options, and against another of ours where one contains the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss as MonaiDiceCE
from monai.losses import DiceLoss as MonaiDice
from monai.losses import FocalLoss as MonaiFocal
from monai.losses import HausdorffDTLoss, SoftclDiceLoss
from monai.losses import TverskyLoss as MonaiTversky
from torch.nn import functional as F

from deconvseg.losses import (
    CLDiceLoss,
    CrossEntropyLoss,
    DiceCELoss,
    DiceLoss,
    FocalLoss,
    HausdorffLoss,
    TverskyLoss,
    region_masks,
)
from losses.samples import REGIONS, sample

shapes = st.lists(st.integers(1, 6), min_size=2, max_size=3).map(tuple)
seeds = st.integers(0, 99)
quickly = settings(deadline=None, max_examples=15)


def truth_of(labels: torch.Tensor, regions: list | None) -> torch.Tensor:
    return region_masks(labels, [(0,), (1,), (2,)] if regions is None else regions)


def activation(regions: list | None) -> dict:
    return {"softmax": True} if regions is None else {"sigmoid": True}


@quickly
@given(shapes, seeds, st.sampled_from([None, REGIONS]), st.booleans(), st.booleans(), st.booleans())
def test_dice(shape: tuple, seed: int, regions: list | None, squared: bool, batch: bool, background: bool) -> None:
    logits, labels = sample(seed, 3 if regions is None else 2, shape, 3)
    found = DiceLoss(squared=squared, batch=batch, background=background, regions=regions, smoothing=0.1)
    theirs = MonaiDice(
        squared_pred=squared, batch=batch, smooth_nr=0.1, smooth_dr=0.1, **activation(regions),
        include_background=background or regions is not None,
    )  # fmt: skip
    torch.testing.assert_close(found(logits, labels), theirs(logits, truth_of(labels, regions)))


@quickly
@given(shapes, seeds, st.sampled_from([REGIONS, [(1,)]]), st.booleans())
def test_dice_and_cross_entropy_of_a_softmax_over_regions(
    shape: tuple, seed: int, regions: list, squared: bool
) -> None:
    logits, labels = sample(seed, len(regions), shape, 3)
    found = DiceCELoss(squared=squared, regions=regions, entropy="softmax")(logits, labels)
    theirs = MonaiDiceCE(sigmoid=True, squared_pred=squared, smooth_nr=1e-5, smooth_dr=1e-5)
    torch.testing.assert_close(found, theirs(logits, truth_of(labels, regions)))


def test_the_readings_of_a_cross_entropy_of_three_nested_regions_differ_by_a_factor_of_two() -> None:
    brats = [(1, 2, 3), (1, 3), (3,)]
    torch.manual_seed(1)
    labels, logits = torch.randint(0, 4, (2, 8, 8)), torch.randn(2, 3, 8, 8)
    binary, softmax = (
        DiceCELoss(squared=True, regions=brats, entropy=entropy)(logits, labels) for entropy in ("binary", "softmax")
    )
    theirs = MonaiDiceCE(sigmoid=True, squared_pred=True)(logits, truth_of(labels, brats))
    assert [round(float(value), 2) for value in (binary, softmax, theirs)] == [1.23, 2.62, 2.62]


def test_a_softmax_over_regions_keeps_the_ratio_of_weights() -> None:
    logits, labels = sample(1, 2, (5, 6), 3)
    plain = CrossEntropyLoss(regions=REGIONS, entropy="softmax")(logits, labels)
    alike = CrossEntropyLoss(regions=REGIONS, entropy="softmax", class_weights=[3, 3])(logits, labels)
    first, second = (
        CrossEntropyLoss(regions=REGIONS, entropy="softmax", class_weights=weights)(logits, labels)
        for weights in ([1, 0], [0, 1])
    )
    torch.testing.assert_close(alike, plain)
    torch.testing.assert_close((first + second) / 2, plain)


@quickly
@given(shapes, seeds, st.sampled_from([None, REGIONS]), st.booleans(), st.floats(0.1, 2), st.floats(0.1, 2))
def test_tversky(shape: tuple, seed: int, regions: list | None, batch: bool, alpha: float, beta: float) -> None:
    logits, labels = sample(seed, 3 if regions is None else 2, shape, 3)
    found = TverskyLoss(alpha=alpha, beta=beta, batch=batch, regions=regions)
    theirs = MonaiTversky(
        alpha=alpha, beta=beta, batch=batch, include_background=regions is not None, **activation(regions)
    )
    torch.testing.assert_close(found(logits, labels), theirs(logits, truth_of(labels, regions)))


def test_tversky_of_halves_is_dice() -> None:
    logits, labels = sample(0, 3, (6, 5), 3)
    halves = TverskyLoss(alpha=0.5, beta=0.5, smoothing=0.5)
    torch.testing.assert_close(halves(logits, labels), DiceLoss(smoothing=1.0)(logits, labels))


@quickly
@given(shapes, seeds, st.sampled_from([None, REGIONS]), st.floats(0, 4), st.sampled_from([None, 0.25]))
def test_focal(shape: tuple, seed: int, regions: list | None, gamma: float, alpha: float | None) -> None:
    logits, labels = sample(seed, 3 if regions is None else 2, shape, 3)
    found = FocalLoss(gamma=gamma, alpha=alpha, regions=regions)(logits, labels)
    theirs = MonaiFocal(gamma=gamma, alpha=alpha, use_softmax=regions is None)(logits, truth_of(labels, regions))
    # MONAI takes the mean over the classes too, of which all but the true one have a loss of 0.
    torch.testing.assert_close(found, theirs * (3 if regions is None else 1))


@pytest.mark.parametrize("regions", [None, REGIONS])
def test_focal_without_focus_is_cross_entropy(regions: list | None) -> None:
    logits, labels = sample(1, 3 if regions is None else 2, (6, 5), 3)
    found = FocalLoss(gamma=0, regions=regions)(logits, labels)
    assert torch.equal(found, CrossEntropyLoss(regions=regions)(logits, labels))


def test_cross_entropy_is_pytorchs() -> None:
    logits, labels = sample(2, 3, (4, 5, 3), 4)
    weights = torch.tensor([0.5, 1.0, 3.0])
    expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=3)
    torch.testing.assert_close(CrossEntropyLoss(class_weights=weights.tolist(), ignore_id=3)(logits, labels), expected)


@pytest.mark.parametrize("shape", [(12, 10), (8, 7, 6)])
def test_cldice_of_one_structure(shape: tuple) -> None:
    logits, labels = sample(3, 1, shape, 2)
    logits, labels = logits.cumsum(2), labels.cummax(2).values
    found = CLDiceLoss(iterations=2, regions=[(1,)])(logits, labels)
    theirs = SoftclDiceLoss(iter_=2, smooth=1e-12)(logits.sigmoid(), region_masks(labels, [(1,)]))
    torch.testing.assert_close(found, theirs)


def test_cldice_sees_a_gap_in_a_vessel_that_dice_hardly_does() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 14:18, 2:30] = 1
    whole = 20.0 * labels[:, None] - 10
    gap, thinner = whole.clone(), whole.clone()
    gap[..., 14:16] = -10
    thinner[..., 14, 2:18] = -10  # as many voxels, along the border
    changes = {
        loss: [loss(each, labels) - loss(whole, labels) for each in (gap, thinner)]
        for loss in (CLDiceLoss(regions=[(1,)], batch=True), DiceLoss(regions=[(1,)], batch=True))
    }
    (cl_gap, cl_border), (dice_gap, dice_border) = changes.values()
    assert dice_gap < dice_border
    assert cl_gap > cl_border


@quickly
@given(shapes, seeds, st.sampled_from([None, REGIONS]), st.floats(0.5, 3))
def test_hausdorff(shape: tuple, seed: int, regions: list | None, alpha: float) -> None:
    logits, labels = sample(seed, 3 if regions is None else 2, shape, 3)
    found = HausdorffLoss(alpha=alpha, regions=regions)(logits, labels)
    theirs = HausdorffDTLoss(alpha=alpha, include_background=regions is not None, **activation(regions))
    torch.testing.assert_close(found, theirs(logits, truth_of(labels, regions)))
