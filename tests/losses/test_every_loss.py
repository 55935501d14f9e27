"""What every registered loss must hold, one of a user's own included."""

import pytest
import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.losses import DeepSupervision, SegmentationLoss, create_loss, list_losses
from losses.samples import IGNORED, REGIONS, sample

LOSSES = list_losses()
KINDS = [(name, regions) for name in LOSSES for regions in (None, REGIONS)]
# Their distances to a boundary know of no voxel beyond the image, where an ignored one is background.
BY_DISTANCE = {"hausdorff", "cldice"}
every = pytest.mark.parametrize(("name", "regions"), KINDS)


def make(name: str, regions: list | None, **options: object) -> SegmentationLoss:
    return create_loss(name, regions=regions, **options)


def outputs(regions: list | None) -> int:
    return 3 if regions is None else 2


def certain(labels: Tensor, regions: list | None) -> Tensor:
    """Logits that are right, without a doubt."""
    ids = [(i,) for i in range(3)] if regions is None else regions
    return torch.stack([200.0 * torch.isin(labels, torch.tensor(each)) - 100 for each in ids], dim=1)


def test_the_losses_that_recipes_name() -> None:
    assert LOSSES == ["ce", "cldice", "dice", "dice_ce", "focal", "hausdorff", "tversky"]


@every
def test_it_is_a_scalar_in_float32_above_that_of_the_truth(name: str, regions: list | None) -> None:
    logits, labels = sample(0, outputs(regions), (8, 8), 3)
    loss = make(name, regions)
    value = loss(logits, labels)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value > loss(certain(labels, regions), labels) >= -1e-6


@every
def test_the_truth_has_a_loss_near_zero_in_3d(name: str, regions: list | None) -> None:
    _, labels = sample(1, outputs(regions), (6, 6, 6), 3)
    assert make(name, regions)(certain(labels, regions), labels).item() == pytest.approx(0, abs=1e-4)


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_class_ids_of_any_integer_type_are_the_same(name: str, regions: list | None, dtype: torch.dtype) -> None:
    logits, labels = sample(3, outputs(regions), (6, 6), 4)
    loss = make(name, regions, ignore_id=IGNORED)
    assert torch.equal(loss(logits, labels.to(dtype)), loss(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_a_softmax_of_one_output_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"one output is the background alone; give `regions=\[\(1,\)\]`"):
        make(name, None)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, regions: list | None, dtype: torch.dtype) -> None:
    logits, labels = sample(2, outputs(regions), (6, 6), 3)
    loss = make(name, regions, class_weights=[1.0, 2.0, 3.0][: outputs(regions)])
    expected = loss(logits.to(dtype).float(), labels)
    assert torch.equal(loss(logits.to(dtype), labels), expected)
    with torch.autocast("cpu", dtype):
        assert torch.equal(loss(logits.to(dtype), labels), expected)


@every
@pytest.mark.parametrize("ids", [1, 2])
def test_gradients_are_finite_where_classes_are_missing_and_logits_extreme(
    name: str, regions: list | None, ids: int
) -> None:
    logits, labels = sample(3, outputs(regions), (6, 6), ids)
    for scale in (1.0, 1e3, 0.0):
        scaled = (logits * scale).requires_grad_()
        value = make(name, regions)(scaled, labels)
        value.backward()
        assert value.isfinite()
        assert scaled.grad is not None
        assert scaled.grad.isfinite().all()


@every
def test_gradients_are_those_of_differences(name: str, regions: list | None) -> None:
    logits, labels = sample(4, outputs(regions), (3, 4), 3)
    loss = make(name, regions, class_weights=[1.0, 2.0, 3.0][: outputs(regions)])
    # The distances of the Hausdorff loss, and the minima and maxima of a skeleton, are constant about a point.
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.double().requires_grad_(), eps=1e-7, atol=1e-5)


@every
@pytest.mark.parametrize("batch", [False, True])
def test_ignored_voxels_have_no_gradient_and_change_nothing(name: str, regions: list | None, batch: bool) -> None:
    logits, labels = sample(5, outputs(regions), (6, 5), 4)
    logits.requires_grad_()
    loss = make(name, regions, ignore_id=IGNORED, batch=batch)
    value = loss(logits, labels)
    value.backward()
    ignored = (labels == IGNORED)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[ignored] == 0).all()
    assert logits.grad[~ignored].any()
    torch.testing.assert_close(loss(logits.detach().where(~ignored, 50.0), labels), value.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "regions"), [kind for kind in KINDS if kind[0] not in BY_DISTANCE])
@pytest.mark.parametrize("batch", [False, True])
def test_ignoring_a_part_is_cutting_it_out(name: str, regions: list | None, batch: bool) -> None:
    logits, labels = sample(6, outputs(regions), (6, 8), 3)
    weights = [1.0, 2.0, 3.0][: outputs(regions)]
    whole = make(name, regions, ignore_id=IGNORED, batch=batch, class_weights=weights)
    expected = make(name, regions, batch=batch, class_weights=weights)(logits[..., :5], labels[..., :5])
    labels[..., 5:] = IGNORED
    torch.testing.assert_close(whole(logits, labels), expected)


@every
def test_a_batch_without_a_judged_voxel_teaches_nothing(name: str, regions: list | None) -> None:
    logits, labels = sample(7, outputs(regions), (4, 4), 1)
    logits.requires_grad_()
    loss = DeepSupervision(make(name, regions, ignore_id=IGNORED))
    value = loss([logits, logits[..., ::2, ::2]], labels + IGNORED)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert not logits.grad.any()


@every
def test_axes_and_samples_have_no_order(name: str, regions: list | None) -> None:
    logits, labels = sample(8, outputs(regions), (6, 4), 3)
    loss = make(name, regions)
    value = loss(logits, labels)
    for other in ((logits.flip(0), labels.flip(0)), (logits.flip(2), labels.flip(1)), (logits.mT, labels.mT)):
        torch.testing.assert_close(loss(*other), value)


@every
def test_classes_of_equal_weight_are_as_without_and_only_ratios_matter(name: str, regions: list | None) -> None:
    logits, labels = sample(9, outputs(regions), (6, 4), 3)
    count = outputs(regions)
    plain = make(name, regions)(logits, labels)
    torch.testing.assert_close(make(name, regions, class_weights=[0.3] * count)(logits, labels), plain)
    one, two = (
        make(name, regions, class_weights=[factor * w for w in (1.0, 2.0, 5.0)[:count]])(logits, labels)
        for factor in (1, 7)
    )
    torch.testing.assert_close(one, two)
    assert not torch.isclose(one, plain)


@every
def test_shapes_and_counts_that_do_not_fit_are_refused(name: str, regions: list | None) -> None:
    logits, labels = sample(10, outputs(regions), (4, 4), 3)
    loss = make(name, regions, class_weights=[1.0] * outputs(regions))
    with pytest.raises(InputError, match=r"logits \(2, \d, 4, 4\) and labels \(2, 4\): a loss needs"):
        loss(logits, labels[:, 0])
    with pytest.raises(InputError, match="are given for 1 outputs of the network"):
        loss(logits[:, :1], labels)
    with pytest.raises(InputError, match="class_weights .*give one of 0 or more"):
        make(name, regions, class_weights=[0.0] * outputs(regions))
