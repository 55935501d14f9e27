"""The loss: equality with MONAI's and PyTorch's parts, and voxels that nobody has judged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from deconvseg.training.loss import SegmentationLoss, region_masks

REGIONS = [(1, 2), (2,)]
KINDS = [
    {"regions": regions, "squared_dice": squared, "batch_dice": batch}
    for regions in (None, REGIONS)
    for squared in (False, True)
    for batch in (False, True)
]
IGNORED = 3


def sample(seed: int, outputs: int, shape: tuple[int, ...], ids: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, outputs, *shape, generator=generator)
    return logits, torch.randint(0, ids, (2, *shape), generator=generator)


@settings(deadline=None, max_examples=15)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), shape=st.lists(st.integers(1, 6), min_size=2, max_size=3))
def test_the_parts_are_monais_dice_and_pytorchs_cross_entropy(kind: dict, seed: int, shape: list[int]) -> None:
    regions = kind["regions"]
    logits, labels = sample(seed, 3 if regions is None else 2, tuple(shape), 3)
    options = {"squared_pred": kind["squared_dice"], "batch": kind["batch_dice"]}
    if regions is None:
        truth = F.one_hot(labels, 3).movedim(-1, 1).float()
        expected = DiceLoss(include_background=False, softmax=True, **options)(logits, truth)
        expected = expected + F.cross_entropy(logits, labels)
    else:
        truth = region_masks(labels, regions)
        expected = DiceLoss(sigmoid=True, **options)(logits, truth)
        expected = expected + F.binary_cross_entropy_with_logits(logits, truth)
    torch.testing.assert_close(SegmentationLoss(**kind)(logits, labels), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_voxels_have_no_gradient_and_change_nothing(kind: dict) -> None:
    logits, labels = sample(0, 3 if kind["regions"] is None else 2, (6, 5), 4)
    logits.requires_grad_()
    loss = SegmentationLoss(**kind, ignore_id=IGNORED)
    value = loss(logits, labels)
    value.backward()
    ignored = (labels == IGNORED)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()
    assert loss(logits.detach().where(~ignored, 50.0), labels) == value


@pytest.mark.parametrize("kind", KINDS)
def test_ignoring_a_part_is_cutting_it_out(kind: dict) -> None:
    logits, labels = sample(1, 3 if kind["regions"] is None else 2, (6, 8), 3)
    loss = SegmentationLoss(**kind, ignore_id=IGNORED)
    expected = SegmentationLoss(**kind)(logits[..., :5], labels[..., :5])
    labels[..., 5:] = IGNORED
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_a_judged_voxel_teaches_nothing(kind: dict) -> None:
    logits, labels = sample(2, 3 if kind["regions"] is None else 2, (4, 4), 1)
    logits.requires_grad_()
    loss = SegmentationLoss(**kind, ignore_id=IGNORED)([logits, logits[..., ::2, ::2]], labels + IGNORED)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert not logits.grad.any()
