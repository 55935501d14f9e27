"""nnU-Net's own commands plan, preprocess, train, predict and evaluate the networks of this package."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunet_peer import LABELS, PEERS, NNUNet, add_hippocampus, make_nnunet

pytestmark = pytest.mark.skipif(not (PEERS / "nnunetv2").is_dir(), reason="nnunetv2 is not installed")


@pytest.fixture
def nnunet(tmp_path: Path) -> NNUNet:
    return make_nnunet(tmp_path / "nnunet")


def configuration(made: NNUNet, dataset: str, plans: str, name: str = "3d_fullres") -> Any:
    content = json.loads((made.preprocessed / dataset / f"{plans}.json").read_text())
    return content["configurations"][name]


def commands(made: NNUNet, dataset: str, plans: str, name: str = "3d_fullres", options: str = "") -> list[str]:
    """The commands that train, predict and evaluate on nnU-Net's side."""
    raw, masks = made.raw / dataset, made.root / "masks" / plans / name
    which = f"-tr ShortTrainer -p {plans} -device cpu"
    return [
        f"nnUNetv2_train 4 {name} 0 {which} {options}",
        f"nnUNetv2_predict -d 4 -c {name} -f 0 -i {raw / 'imagesTs'} -o {masks} {which} -npp 0 -nps 0",
        f"nnUNetv2_evaluate_folder {raw / 'labelsTs'} {masks} -np 1 -djfile {raw / 'dataset.json'} "
        f"-pfile {made.preprocessed / dataset / f'{plans}.json'}",
    ]


def summary(made: NNUNet, dataset: str, plans: str, name: str = "3d_fullres") -> Any:
    """Check that the mask is on the image's grid and holds labels of the dataset alone; return nnU-Net's scores."""
    (mask,) = (made.root / "masks" / plans / name).glob("*.nii.gz")
    image = nib.load(made.raw / dataset / "imagesTs" / mask.name.replace(".nii.gz", "_0000.nii.gz"))
    found = nib.load(mask)
    assert found.shape == image.shape
    assert np.allclose(found.affine, image.affine)
    assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}
    return json.loads(mask.with_name("summary.json").read_text())["mean"]


def test_stock_commands_train_and_use_deconver(nnunet: NNUNet, real_data: Path) -> None:
    dataset = add_hippocampus(nnunet, real_data, cases=2)
    shown = nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        "deconvseg nnunet plan -d 4 --width 8",
        "nnUNetv2_preprocess -d 4 -plans_name deconvsegPlans -c 3d_fullres -np 1",
        *commands(nnunet, dataset, "deconvsegPlans"),
    )
    assert "nnUNetv2_preprocess -d 4 -plans_name deconvsegPlans -c 3d_fullres 2d" in shown
    architecture = configuration(nnunet, dataset, "deconvsegPlans")["architecture"]
    assert architecture["network_class_name"] == "deconvseg.integrations.nnunet.PlannedNetwork"
    assert set(summary(nnunet, dataset, "deconvsegPlans")) == {"1", "2"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("options", ["--width 8", "--model PlainConvUNet", "--model ResidualEncoderUNet"])
def test_every_kind_of_labels(kind: str, options: str, nnunet: NNUNet, real_data: Path) -> None:
    dataset = add_hippocampus(nnunet, real_data, kind=kind, cases=3)
    nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        f"deconvseg nnunet plan -d 4 -p ourPlans {options}",
        "nnUNetv2_preprocess -d 4 -plans_name ourPlans -c 3d_fullres -np 1",
    )
    nnunet.shrink(dataset, "ourPlans")
    nnunet.run(*commands(nnunet, dataset, "ourPlans"))
    regions = "regions_class_order" in LABELS[kind]
    assert set(summary(nnunet, dataset, "ourPlans")) == ({"(1, 2)", "1"} if regions else {"1", "2"})


@pytest.mark.slow
def test_the_best_of_two_configurations_is_found(nnunet: NNUNet, real_data: Path) -> None:
    dataset = add_hippocampus(nnunet, real_data, cases=3)
    both = [commands(nnunet, dataset, "deconvsegPlans", name, "--npz") for name in ("2d", "3d_fullres")]
    nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        "deconvseg nnunet plan -d 4 --width 8",
        "nnUNetv2_preprocess -d 4 -plans_name deconvsegPlans -c 2d 3d_fullres -np 1",
        *both[0],
        *both[1],
        "nnUNetv2_find_best_configuration 4 -c 2d 3d_fullres -f 0 -tr ShortTrainer -p deconvsegPlans -np 1",
    )
    found = json.loads((nnunet.results / dataset / "inference_information.json").read_text())
    model = found["best_model_or_ensemble"]["selected_model_or_models"][0]
    assert model["trainer"] == "ShortTrainer"
    assert model["plans_identifier"] == "deconvsegPlans"
    assert set(summary(nnunet, dataset, "deconvsegPlans", "2d")) == {"1", "2"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["segresnet", "swin_unetr", "unetr", "mednext", "unet", "nnunet", "factorizer"])
def test_registered_networks(model: str, nnunet: NNUNet, real_data: Path) -> None:
    dataset = add_hippocampus(nnunet, real_data, cases=2)
    nnunet.run(
        "nnUNetv2_extract_fingerprint -d 4 -np 1",
        f"deconvseg nnunet plan -d 4 --model {model} --memory 1G",
        "nnUNetv2_preprocess -d 4 -plans_name deconvsegPlans -c 3d_fullres -np 1",
    )
    nnunet.shrink(dataset, "deconvsegPlans")
    nnunet.run(*commands(nnunet, dataset, "deconvsegPlans"))
    assert set(summary(nnunet, dataset, "deconvsegPlans")) == {"1", "2"}
