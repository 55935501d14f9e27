"""The Dice of whole cases in the midst of a training."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deconvseg.inference import predict_windows
from deconvseg.losses import region_masks
from deconvseg.models.complexity.memory import StorageTracker
from deconvseg.planning import Plan
from deconvseg.training.validation import OutOfTimeError, ValidationScore, dice_of_case
from plans import plan_of, tiny_plan

REGIONS = [{"name": "whole", "labels": [1, 2], "paints": 1}, {"name": "core", "labels": [2], "paints": 2}]


def plan_for(window: tuple[int, ...], regions: bool, ignore: int | None) -> Plan:
    tree = plan_of(len(window), 3, window, [1.0] * len(window)).model_dump(mode="json")
    labels = {"values": [0, 1, 2], "names": ["background", "rim", "core"], "ignore": ignore}
    return tiny_plan(**{**tree, "labels": labels, "regions": REGIONS if regions else None})


def network_for(plan: Plan) -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv3d if plan.spatial_dims == 3 else nn.Conv2d
    return convolution(1, plan.outputs, 3, padding=1).eval()


def dice_of_maps(network: nn.Module, plan: Plan, image: Tensor, labels: Tensor) -> list[float]:
    """The Dice of the whole maps at once."""
    regions = plan.regions is not None
    maps = predict_windows(network, image[None], plan.patch_size, overlap=plan.recipe.overlap, regions=regions)
    ids = [region.labels for region in plan.regions or ()] or [(1,), (2,)]
    predicted = maps[0] > 0.5 if regions else region_masks(maps.argmax(1), ids)[0] > 0
    truth = region_masks(labels[None], ids)[0] > 0
    judged = labels != 3
    pairs = [((p & judged).numpy(), (t & judged).numpy()) for p, t in zip(predicted, truth, strict=True)]
    return [2 * (p & t).sum() / (p.sum() + t.sum()) if p.any() or t.any() else 1.0 for p, t in pairs]


@pytest.mark.parametrize("ignore", [None, 9])
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(
    ("shape", "window"),
    [((40, 70), (32, 32)), ((20, 20), (32, 32)), ((20, 50, 35), (16, 16, 8)), ((9, 12, 7), (8, 8, 1))],
)
def test_a_case_scores_as_by_its_whole_maps(
    shape: tuple[int, ...], window: tuple[int, ...], regions: bool, ignore: int | None
) -> None:
    plan = plan_for(window, regions, ignore)
    network = network_for(plan)
    image = torch.randn(1, *shape)
    # The id behind the last class is that of voxels to ignore.
    labels = torch.randint(0, 3 if ignore is None else 4, shape)
    found, _ = dice_of_case(network, plan, image, labels, device=torch.device("cpu"))
    # A voxel whose maps are as good as equal may go either way.
    assert found.numpy() == pytest.approx(dice_of_maps(network, plan, image, labels), abs=2e-3)


def test_the_dice_of_two_empty_masks_is_one() -> None:
    plan = plan_for((16, 16), regions=True, ignore=None)

    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2, *x.shape[2:]), -1.0)

    labels = torch.zeros(30, 20, dtype=torch.int64)
    empty = dice_of_case(Nothing(), plan, torch.randn(1, 30, 20), labels, device=torch.device("cpu"))
    assert empty.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    labels[3, 3] = 1
    missed = dice_of_case(Nothing(), plan, torch.randn(1, 30, 20), labels, device=torch.device("cpu"))
    assert missed.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_what_a_mean_is_over_stands_beside_it() -> None:
    blank, found = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [1.0]])
    healthy = torch.tensor([[1.0], [0.0]])
    assert ValidationScore.of([healthy, blank]).describe(2) == "0.500 (with truth 0.000)"
    assert ValidationScore.of([healthy, blank]).describe(3) == "0.500 (2 of 3 cases, with truth 0.000)"
    assert ValidationScore.of([found]).describe(1) == "0.500"
    assert ValidationScore.of([healthy]).describe(1) == "1.000"


def test_a_region_is_scored_by_its_own_map_and_not_by_those_inside_it() -> None:
    class CoreAlone(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            maps = torch.full((len(x), 2, *x.shape[2:]), -1.0)
            maps[:, 1] = 1.0
            return maps

    labels = torch.full((30, 20), 2)
    found = dice_of_case(
        CoreAlone(), plan_for((16, 16), True, None), torch.randn(1, 30, 20), labels, device=torch.device("cpu")
    )
    assert found.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_no_maps_of_the_whole_case_are_held() -> None:
    plan = plan_of(3, 6, (16, 16, 16), [1.0] * 3)
    network = network_for(plan)
    image, labels = torch.randn(1, 32, 256, 32), torch.randint(0, 6, (32, 256, 32))
    with StorageTracker([image, labels, *network.parameters()]) as tracker:
        dice, _ = dice_of_case(network, plan, image, labels, device=torch.device("cpu"))
    assert len(dice) == 5
    maps = 4 * plan.outputs * labels.numel()
    assert tracker.peak < maps / 2


def test_a_case_can_be_given_up_after_any_window() -> None:
    plan = plan_for((16, 16), regions=False, ignore=None)
    told: list[int] = []

    def tell() -> None:
        told.append(len(told))
        if len(told) == 5:
            raise OutOfTimeError

    labels = torch.from_numpy(np.zeros((60, 60), np.int64))
    with pytest.raises(OutOfTimeError):
        dice_of_case(network_for(plan), plan, torch.randn(1, 60, 60), labels, device=torch.device("cpu"), tell=tell)
    assert len(told) == 5


def test_a_blank_network_scores_zero_over_the_cases_with_truth() -> None:
    healthy, missed = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    found = ValidationScore.of([healthy] * 15 + [missed] * 13)
    assert (found.mean, found.with_truth, found.cases) == (pytest.approx(15 / 28), 0.0, 28)
    assert ValidationScore.of([healthy]).with_truth is None


def test_classes_in_no_true_mask_do_not_lift_the_mean() -> None:
    row = torch.tensor([[0.2, *[1.0] * 116], [1.0, *[0.0] * 116]])
    assert ValidationScore.of([row, row]).mean == pytest.approx(0.2)
    # A false alarm in one of them would come and go: epochs are compared over the same classes.
    alarm = row.clone()
    alarm[0, 5] = 0.0
    assert ValidationScore.of([row, alarm]).mean == pytest.approx(0.2)
    assert ValidationScore.of([row, alarm]).classes[5] == 0.5
