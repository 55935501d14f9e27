"""The default loss: what it was before there were others, bit for bit; MONAI's and PyTorch's parts by value."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss as MonaiDiceCELoss
from torch.nn import functional as F

from deconvseg.losses import DeepSupervision, DiceCELoss, region_masks
from losses.old_loss import old_loss
from losses.samples import IGNORED, REGIONS, sample

KINDS = [
    {"regions": regions, "squared": squared, "batch": batch}
    for regions in (None, REGIONS)
    for squared in (False, True)
    for batch in (False, True)
]


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    levels=st.integers(1, 3),
    ignore=st.booleans(),
)
def test_it_is_what_it_was_bit_for_bit(kind: dict, seed: int, shape: list[int], levels: int, ignore: bool) -> None:
    logits, labels = sample(seed, 3 if kind["regions"] is None else 2, tuple(shape), 4 if ignore else 3)
    ignore_id = IGNORED if ignore else None
    heads = [logits[(..., *[slice(None, None, 2**level)] * len(shape))] for level in range(levels)]
    found, expected = ([head.clone().requires_grad_() for head in heads] for _ in range(2))
    value = DeepSupervision(DiceCELoss(**kind, ignore_id=ignore_id))(found, labels)
    old = old_loss(expected, labels, **kind, ignore_id=ignore_id)
    assert torch.equal(value, old)
    value.backward()
    old.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(found, expected, strict=True))


@settings(deadline=None, max_examples=15)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), weighted=st.booleans())
def test_it_is_monais_sum(kind: dict, seed: int, weighted: bool) -> None:
    if kind["regions"] is not None:
        return
    logits, labels = sample(seed, 3, (5, 4, 3), 3)
    # MONAI does not divide the weighted Dice by its weights, so these have a mean of 1.
    weights = torch.tensor([0.2, 0.5, 1.5]) if weighted else None
    options = {"squared_pred": kind["squared"], "batch": kind["batch"], "include_background": False}
    expected = MonaiDiceCELoss(softmax=True, to_onehot_y=True, weight=weights, **options)(logits, labels[:, None])
    loss = DiceCELoss(**kind, class_weights=None if weights is None else weights.tolist())
    torch.testing.assert_close(loss(logits, labels), expected)


def test_regions_are_dice_plus_binary_cross_entropy_by_hand() -> None:
    logits, labels = sample(0, 2, (6, 4), 3)
    truth = region_masks(labels, REGIONS)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * truth).sum((2, 3)) + 1e-5) / ((p * p).sum((2, 3)) + (truth * truth).sum((2, 3)) + 1e-5)
    expected = dice.mean() + F.binary_cross_entropy_with_logits(logits, truth)
    torch.testing.assert_close(DiceCELoss(regions=REGIONS, squared=True)(logits, labels), expected)


def test_deep_supervision_weighs_levels_by_halves() -> None:
    torch.manual_seed(0)
    high, low = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :4] = 1
    loss = DiceCELoss()
    expected = (loss(high, labels) + 0.5 * loss(low, labels[:, ::2, ::2])) / 1.5
    assert DeepSupervision(loss)([high, low], labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_region_masks_are_unions() -> None:
    labels = torch.tensor([[0, 1, 2, 3]])
    assert region_masks(labels, [(1, 3), (2,)]).tolist() == [[[0, 1, 0, 1], [0, 0, 1, 0]]]
