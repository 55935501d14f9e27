"""The doubt of a case, against its definition, and where it is told."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from deconvseg.data import Geometry, Image
from deconvseg.evaluation import OperatingPoints, dice, read_operating_points
from deconvseg.evaluation.correlation import spearman
from deconvseg.inference import Predictor, predict
from deconvseg.inference.doubting import CaseDoubt, Doubt
from deconvseg.planning import Plan
from plans import nested_plan, plan_of

IMAGE = Image(np.random.default_rng(0).normal(size=(1, 16, 13)).astype(np.float32), Geometry.identity(2))
PLANS = {"one class": plan_of(2, 2, (8, 8), (1, 1)), "classes": plan_of(2, 4, (8, 8), (1, 1)), "regions": nested_plan()}


class Shifted(nn.Module):
    """A 1 x 1 convolution, whose first map is higher by ``shift``."""

    def __init__(self, outputs: int, seed: int, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(1, outputs, 1)
        self.layer.bias.data[0] += shift

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def doubt_of(predictor: Predictor) -> Doubt:
    found: list[Doubt] = []
    predictor.segment(IMAGE, doubt=found.append)
    return found[0]


def models(plan: Plan, count: int) -> list[tuple[nn.Module, Plan]]:
    same = plan.model_copy(update={"channels": plan_of(2, 2, (8, 8), (1, 1)).channels, "patch_size": (8, 8)})
    return [(Shifted(plan.outputs, seed), same) for seed in range(count)]


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("count", [1, 3])
def test_entropy_is_that_of_the_predicted_foreground(kind: str, count: int) -> None:
    given = models(PLANS[kind], count)
    predictor = Predictor(given)
    p = predictor.probabilities(IMAGE).astype(np.float64)
    foreground = predictor.segment(IMAGE).pixels > 0
    if PLANS[kind].regions is None:
        each = -(p * np.log(p)).sum(0) / np.log(len(p))
    else:
        each = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(0)
    doubt = doubt_of(predictor)
    assert foreground.any()
    assert doubt.entropy == pytest.approx(each[foreground].mean(), abs=1e-6)
    assert doubt.score == doubt.entropy
    assert 0 <= doubt.score <= 1
    assert doubt.largest_foreground is None
    assert (doubt.disagreement is None) == (count == 1)


@pytest.mark.parametrize("kind", PLANS)
def test_disagreement_is_what_pairs_of_masks_lack_of_a_dice_of_one(kind: str) -> None:
    given = models(PLANS[kind], 3)
    masks = [Predictor([model]).segment(IMAGE).pixels for model in given]
    found = []
    for one, other in itertools.combinations(masks, 2):
        for structure in given[0][1].structures:
            pair = [np.isin(mask, structure.labels) for mask in (one, other)]
            if pair[0].any() or pair[1].any():
                found.append(dice(*pair))
    assert doubt_of(Predictor(given)).disagreement == pytest.approx(1 - np.mean(found), abs=1e-12)
    assert doubt_of(Predictor([given[0]] * 2)).disagreement == 0


def test_an_empty_mask_is_doubted_by_what_came_nearest() -> None:
    plan = PLANS["classes"]
    for count in (1, 2):
        predictor = Predictor([(Shifted(4, seed, shift=6.0), plan) for seed in range(count)])
        doubt = doubt_of(predictor)
        assert not predictor.segment(IMAGE).pixels.any()
        assert doubt.entropy is None
        assert doubt.score == pytest.approx(1 - predictor.probabilities(IMAGE)[0].min(), abs=1e-5)
        assert doubt.disagreement in (None, 0)


def test_an_image_of_zeros_is_not_doubted() -> None:
    plan = PLANS["classes"].model_copy(update={"crop_to_nonzero": True})
    found: list[Doubt] = []
    predictor = Predictor([(Shifted(4, 0), plan)])
    predictor.segment(Image(np.zeros((1, 9, 9), np.float32), Geometry.identity(2)), doubt=found.append)
    assert found == [Doubt(None, 0.0)]


def test_doubt_is_told_in_json_in_the_table_and_in_the_records(trained: Path, discs: Path, tmp_path: Path) -> None:
    done = predict(discs / "images", trained, tmp_path, device="cpu")
    told = done.to_json()["doubt"]
    assert sorted(told) == [f"disc{n}" for n in range(8)]
    with (tmp_path / "doubt.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["mask"] for row in rows] == [f"{n}.png" for n in sorted(told, key=lambda name: -told[name]["score"])]
    assert all(float(row["score"]) == told[row["mask"][:-4]]["score"] for row in rows)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert {line["mask"][:-4]: line["doubt"] for line in lines} == told
    # Masks that stand keep what was recorded of them.
    kept = predict(discs / "images", trained, tmp_path, skip_existing=True, device="cpu")
    assert len(kept.skipped) == 8
    assert kept.to_json()["doubt"] == told
    # Two validation cases say nothing of what is unusual.
    assert {entry["doubtful"] for entry in told.values()} == {None}
    points = read_operating_points(trained)
    assert points is not None
    assert points.doubts.keys() == {"disc4", "disc5"}
    assert points.doubt_limit is None


def test_the_limit_is_what_most_validation_cases_are_not_above() -> None:
    doubts = {f"case{n}": n / 100 for n in range(101)}
    points = OperatingPoints(cases=101, structures=(), doubts=doubts)
    assert points.doubt_limit == pytest.approx(0.95)
    assert CaseDoubt.judge(Doubt(0.96), points.doubt_limit).doubtful
    assert CaseDoubt.judge(Doubt(None, 0.9), points.doubt_limit).doubtful is False
    assert CaseDoubt.judge(Doubt(0.96), None).doubtful is None


def test_rank_correlation_is_scipys_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=40).round(1)
    second = first + rng.normal(size=40).round(1)
    found = spearman(first, second)
    assert found is not None
    assert found.rho == pytest.approx(spearmanr(first, second).statistic)
    assert found.n == 40
    assert found.ci95[0] < found.rho < found.ci95[1]  # type: ignore[index]
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2, 3], [1, 2, 3]).ci95 is None  # type: ignore[union-attr]
