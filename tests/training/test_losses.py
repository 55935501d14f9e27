"""The loss that a plan's recipe gives is the one that trains, and the one that the plan's trial steps take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.losses import DiceCELoss, list_losses
from deconvseg.planning import RECIPES, Plan, StepMeter, explain, read_plan
from deconvseg.planning.trial import measure
from deconvseg.training import train
from plans import tiny_plan

SUM = ["dice_ce", {"kind": "cldice", "weight": 0.5}]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights.safetensors")


@pytest.fixture(scope="module")
def usual(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("usual") / "run"
    train(discs, run, plan=tiny_plan(), splits=discs / "splits.json", device="cpu")
    return run


@pytest.mark.parametrize("loss", ["tversky", {"kind": "focal", "gamma": 1}, SUM, "hausdorff"])
def test_it_trains_with_the_loss_that_is_set(discs: Path, tmp_path: Path, usual: Path, loss: Any) -> None:
    values = {"recipe.loss": loss, "recipe.deep_supervision": True}
    run = train(discs, tmp_path / "run", plan=tiny_plan(), values=values, splits=discs / "splits.json", device="cpu")
    found = weights(run.path)
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert any(not torch.equal(found[key], tensor) for key, tensor in weights(usual).items())
    assert json.loads((run.path / "plan.json").read_text())["recipe"]["loss"] == loss
    assert all(row["train_loss"] > 0 for row in run.metrics)


def test_a_plan_from_before_the_losses_opens_and_trains_as_it_did(discs: Path, tmp_path: Path, usual: Path) -> None:
    tree = tiny_plan().model_dump(mode="json")
    del tree["recipe"]["loss"]
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    plan = read_plan(tmp_path / "plan.json")
    loss = plan.training_loss().loss
    assert isinstance(loss, DiceCELoss)
    assert loss.title == "soft Dice over the batch + cross-entropy"
    run = tmp_path / "run"
    train(discs, run, plan=tmp_path / "plan.json", splits=discs / "splits.json", device="cpu")
    assert all(torch.equal(tensor, weights(usual)[key]) for key, tensor in weights(run).items())


def test_each_loss_survives_the_plans_file(tmp_path: Path) -> None:
    for loss in (*list_losses(), {"kind": "tversky", "beta": 0.8}, SUM):
        plan = tiny_plan().with_values({"recipe.loss": loss})
        (tmp_path / "plan.json").write_text(plan.model_dump_json())
        assert read_plan(tmp_path / "plan.json") == plan
        (shown,) = (row for section in explain(plan) for row in section.rows if row[0] == "  loss")
        assert shown[1] == plan.training_loss().loss.title


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("focla", "recipe.loss: loss 'focla' is unknown: did you mean 'focal'"),
        ({"kind": "focal", "gama": 1}, "recipe.loss: loss focal has no option 'gama'"),
        ({"kind": "dice", "class_weights": [1, 2, 3]}, "class_weights: 3 are given for 2 outputs of the network"),
        (None, "recipe.loss: loss None: give a name"),
    ],
)
def test_a_loss_that_there_is_not_is_refused_by_its_key(loss: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_plan().with_values({"recipe.loss": loss})


def regions(plan: Plan) -> Plan:
    return tiny_plan(
        regions=[{"name": "disc", "labels": [1], "paints": 1}],
        model={"name": "deconver", "config": {**plan.model.config, "out_channels": 1}},
    )


def test_regions_and_ignored_voxels_are_the_plans() -> None:
    plan = regions(tiny_plan()).with_values({"labels.ignore": 9, "recipe.loss": SUM, "recipe.batch_dice": False})
    loss = plan.training_loss().loss
    assert (loss.regions, loss.ignore_id) == ([(1,)], 2)
    assert loss.title == "soft Dice over the patch + cross-entropy + 0.5 x clDice (3 thinnings) over the patch"


@pytest.mark.parametrize("name", list_losses())
@pytest.mark.parametrize("single", [False, True])
def test_the_trial_takes_the_steps_loss(name: str, single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvseg.losses import DeepSupervision

    config = {**tiny_plan().model.config, "deep_supervision_heads": 1}
    taken: list[str] = []
    forward = DeepSupervision.forward

    def noting(self, logits, labels):  # type: ignore[no-untyped-def]
        taken.append(self.loss.title)
        assert len(logits) == 2
        assert int(labels.max()) <= 2 if single else 1
        return forward(self, logits, labels)

    monkeypatch.setattr(DeepSupervision, "forward", noting)
    recipe = RECIPES["paper"].with_loss(name)
    threads = torch.get_num_threads()
    cost = measure("deconver", config, (16, 16), 1, "cpu", regions=single, threads=threads, recipe=recipe.model_dump())
    assert cost["seconds"] > 0
    assert set(taken) == {recipe.training_loss(regions=None, ignore_id=None).loss.title}


def test_the_process_that_measures_is_told_the_recipe() -> None:
    with StepMeter("cpu", recipe=RECIPES["default"].with_loss("focal")) as meter:
        assert meter("deconver", tiny_plan().model.config, (16, 16), 1, regions=False) is not None
        meter.recipe = meter.recipe.with_loss({"kind": "focal", "class_weights": [1, 2, 3]})
        with pytest.raises(DeconvsegError, match="class_weights: 3 are given for 2 outputs"):
            meter("deconver", tiny_plan().model.config, (16, 16), 1, regions=False)


def test_the_loss_that_is_set_is_known_before_cases_are_read(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deconvseg.planning.planner.take_fingerprint", lambda *_, **__: pytest.fail("cases are read"))
    with pytest.raises(InputError, match="^loss 'focla' is unknown"):
        train(discs, tmp_path / "run", values={"recipe.loss": "focla"}, splits=discs / "splits.json", device="cpu")


def test_the_steps_that_are_timed_for_a_plan_take_the_loss_that_is_set(discs: Path, tmp_path: Path) -> None:
    # The number of classes is not declared; it is known once the cases have been read, and before a step is timed.
    values = {"recipe.loss": {"kind": "ce", "class_weights": [1, 2, 3]}}
    with pytest.raises(InputError, match="class_weights: 3 are given for 2 outputs"):
        train(discs, tmp_path / "run", values=values, splits=discs / "splits.json", device="cpu")
