"""Trained networks of nnU-Net with DTC put in, and the papers' recipes as its trainers, by nnU-Net's own commands."""

from pathlib import Path

import pytest
import torch

from nnunet_peer import LABELS, PEERS, NNUNet, add_hippocampus, make_nnunet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PEERS / "nnunetv2").is_dir(), reason="nnunetv2 is not installed"),
]

# nnU-Net's recipe trainers with few steps; all else is theirs.
_SHORT = """
import torch
from deconvseg.integrations.nnunet.recipes import DeconverTrainer, DTCTrainer


def shortened(trainer):
    class Short(trainer):
        def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs, self.num_val_iterations_per_epoch = 2, 1
            self.num_iterations_per_epoch = min(2, self.num_iterations_per_epoch)

    Short.__name__ = f"Short{trainer.__name__}"
    return Short


ShortDeconver, ShortDTC = shortened(DeconverTrainer), shortened(DTCTrainer)
ShortDeconver.__name__, ShortDTC.__name__ = "ShortDeconver", "ShortDTC"
"""


@pytest.fixture
def nnunet(tmp_path: Path) -> NNUNet:
    return make_nnunet(tmp_path / "nnunet")


def masks(made: NNUNet, dataset: str, plans: str, where: str, checkpoint: str = "checkpoint_final.pth") -> list[str]:
    images = made.raw / dataset / "imagesTs"
    which = f"-d 4 -c 3d_fullres -f 0 -tr ShortTrainer -p {plans} -chk {checkpoint} -device cpu -npp 0 -nps 0"
    return f"nnUNetv2_predict {which} -i {images} -o {made.root / where} --save_probabilities".split()


@pytest.mark.parametrize("planner", ["ExperimentPlanner", "nnUNetPlannerResEncM"])
def test_dtc_in_a_trained_network_changes_nothing_until_it_is_trained(
    planner: str, nnunet: NNUNet, real_data: Path
) -> None:
    import numpy as np

    dataset = add_hippocampus(nnunet, real_data, cases=2)
    plans = "nnUNetPlans" if planner == "ExperimentPlanner" else "nnUNetResEncUNetMPlans"
    nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        f"nnUNetv2_plan_experiment -d 4 -pl {planner}",
        f"nnUNetv2_preprocess -d 4 -plans_name {plans} -c 3d_fullres -np 1",
    )
    nnunet.shrink(dataset, plans)
    results = nnunet.results / dataset / f"ShortTrainer__{plans}__3d_fullres"
    out = nnunet.root / "upgraded"
    shown = nnunet.run(
        f"nnUNetv2_train 4 3d_fullres 0 -tr ShortTrainer -p {plans} -device cpu",
        masks(nnunet, dataset, plans, "before"),
        f"deconvseg nnunet upgrade {results} -o {out} -p dtcPlans",
    )
    assert f"nnUNetv2_train 4 3d_fullres 0 -p dtcPlans -pretrained_weights {out / 'fold_0.pth'}" in shown
    # A training without a step that changes weights: what the checkpoint gives is what nnU-Net loads and saves.
    (nnunet.trainers / "short.py").write_text(
        (nnunet.trainers / "short.py").read_text() + "        self.initial_lr, self.weight_decay = 0.0, 0.0\n"
    )
    nnunet.run(
        f"nnUNetv2_train 4 3d_fullres 0 -tr ShortTrainer -p dtcPlans -device cpu -pretrained_weights {out}/fold_0.pth",
        masks(nnunet, dataset, "dtcPlans", "after"),
    )
    (before,) = (nnunet.root / "before").glob("*.npz")
    first, second = (np.load(path)["probabilities"] for path in (before, nnunet.root / "after" / before.name))
    assert np.array_equal(first, second)
    weights = torch.load(out / "fold_0.pth", weights_only=True)["network_weights"]
    assert all(value.eq(0).all() for name, value in weights.items() if ".added." in name)
    assert any(".added." in name for name in weights)
    # And it is trained: nnU-Net's own trainer moves the new weights.
    nnunet.shorten()
    nnunet.run(
        f"nnUNetv2_train 4 3d_fullres 0 -tr ShortTrainer -p dtcPlans -device cpu -pretrained_weights {out}/fold_0.pth"
    )
    trained = nnunet.results / dataset / "ShortTrainer__dtcPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    moved = torch.load(trained, weights_only=False)["network_weights"]
    assert any(value.ne(0).any() for name, value in moved.items() if ".added." in name)


@pytest.mark.parametrize("kind", LABELS)
def test_the_recipes_train_with_every_kind_of_labels(kind: str, nnunet: NNUNet, real_data: Path) -> None:
    dataset = add_hippocampus(nnunet, real_data, kind=kind, cases=2)
    (nnunet.trainers / "recipes_short.py").write_text(_SHORT)
    nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        "deconvseg nnunet plan -d 4 --width 8",
        "nnUNetv2_preprocess -d 4 -plans_name deconvsegPlans -c 3d_fullres -np 1",
        *(
            f"nnUNetv2_train 4 3d_fullres 0 -tr {trainer} -p deconvsegPlans -device cpu"
            for trainer in ("ShortDeconver", "ShortDTC")
        ),
    )
    for trainer in ("ShortDeconver", "ShortDTC"):
        fold = nnunet.results / dataset / f"{trainer}__deconvsegPlans__3d_fullres" / "fold_0"
        saved = torch.load(fold / "checkpoint_final.pth", weights_only=False)
        (group,) = saved["optimizer_state"]["param_groups"]
        # AdamW, by its moments; the rate after the first epoch, which warms up, of the first or of both.
        assert "betas" in group
        assert group["weight_decay"] == 1e-5
        assert all(torch.isfinite(value).all() for value in saved["network_weights"].values())
        assert all(loss == loss for loss in saved["logging"]["train_losses"])


def test_nnunet_finds_the_trainers_that_the_command_names(nnunet: NNUNet) -> None:
    shown = nnunet.run("deconvseg nnunet env")
    (line,) = [line for line in shown.splitlines() if line.startswith("export nnUNet_extTrainer=")]
    folder = line.partition("=")[2].split(":")[0]
    (nnunet.root / "find.py").write_text(
        "import sys; from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "for name in ('DeconverTrainer', 'DTCTrainer'):\n"
        "    found = find(name)\n"
        "    print('FOUND', found.__module__, found.__name__, found.__module__ in sys.modules)\n"
    )
    found = nnunet.run(["python", str(nnunet.root / "find.py")], nnUNet_extTrainer=folder)
    for name in ("DeconverTrainer", "DTCTrainer"):
        assert f"FOUND deconvseg.integrations.nnunet.recipes {name} True" in found
