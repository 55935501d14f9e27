"""Runs made of nnU-Net's models: the masks of nnU-Net itself, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import deconvseg
from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning import read_plan
from deconvseg.runs import Run
from integrations.nnunet_results import Model, dice_of, import_predictor, predict_with_nnunet, write_scan
from nnunet_peer import add_hippocampus, make_nnunet

peer = import_predictor()
from deconvseg.integrations import PlannedNetwork, UpsampledUNet, import_nnunet  # noqa: E402
from deconvseg.integrations.nnunet.architectures import architecture_of  # noqa: E402
from deconvseg.integrations.nnunet.results import Configuration  # noqa: E402

MODELS = {
    "isotropic, several folds": (Model(folds=("0", "1", "2"), spacing=(1.1, 0.9, 1.0)), {}),
    "thick slices, CT": (
        Model(
            channels=("CT",),
            schemes=("CTNormalization",),
            spacing=(4.0, 1.1, 0.9),
            patch=(8, 24, 16),
            median=(4.0, 1.0, 1.0),
        ),
        {"shape": (30, 34, 9), "spacing": (1.0, 1.2, 5.0)},
    ),
    "turned, regions, black around a body": (
        Model(
            kind="regions",
            channels=("MRI", "T2"),
            schemes=("ZScoreNormalization",) * 2,
            masked=(True, True),
            transposed=(2, 0, 1),
            network="ResidualEncoderUNet",
            mirrored=None,
        ),
        {"axes": "PIR", "black": True},
    ),
    "slices, ignore label": (
        Model(kind="ignore", spacing=(1.2, 0.9), patch=(16, 24), median=(3.0, 1.0, 1.0), mirrored=(0, 1)),
        {"shape": (26, 30, 7), "spacing": (1.0, 1.0, 4.0), "axes": "LPS"},
    ),
    "odd patch, both, no normalisation": (
        Model(
            kind="both",
            channels=("noNorm",),
            schemes=("NoNormalization",),
            reader="NibabelIOWithReorient",
            patch=(9, 12, 12),
            spacing=(1.3, 1.0, 1.0),
            changes={},
        ),
        {"axes": "LIP", "shape": (25, 24, 26)},
    ),
    "torch's resampling, rescaled": (
        Model(
            schemes=("RescaleTo01Normalization",),
            function="resample_torch_fornnunet",
            spacing=(4.5, 0.8, 0.8),
            patch=(8, 24, 16),
        ),
        {"shape": (30, 30, 10), "spacing": (1.0, 1.0, 4.0)},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_masks_are_those_of_nnunet(tmp_path: Path, name: str) -> None:
    model, scan = MODELS[name]
    if model.patch == (9, 12, 12):
        model.changes = {"architecture": _flat_first_axis(model)}
    results = model.write(tmp_path / "results")
    images = tmp_path / "imagesTs"
    images.mkdir()
    for number in range(len(model.channels)):
        options = {"shape": (25, 28, 22), "spacing": (1.0, 1.0, 1.0), **scan}
        write_scan(images / f"case_{number:04d}.nii.gz", seed=number, **options)
    predict_with_nnunet(peer, results, images, tmp_path / "theirs", model.folds)
    runs = import_nnunet(results, tmp_path / "run")
    assert len(runs) == len(model.folds)
    done = deconvseg.predict(images, tmp_path / "run", tmp_path / "ours", device="cpu")
    assert [path.name for path in done.written] == ["case.nii.gz"]
    ours, theirs = (nib.load(tmp_path / side / "case.nii.gz") for side in ("ours", "theirs"))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    dice = dice_of(np.asarray(ours.dataobj), np.asarray(theirs.dataobj), least=500)
    assert dice
    assert min(dice) >= 0.999


def _flat_first_axis(model: Model) -> dict:
    """An architecture that does not shrink the first axis, so that windows of odd length are possible."""
    architecture = Model.plans(model)["configurations"]["chosen"]["architecture"]
    architecture["arch_kwargs"]["strides"] = [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    return architecture


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Model(folds=("0", "2")).write(tmp_path_factory.mktemp("nnunet") / "results")


def test_a_run_says_where_it_comes_from(results: Path, tmp_path: Path) -> None:
    import_nnunet(results, tmp_path / "run")
    run = Run.open(tmp_path / "run" / "fold_1")
    origin = run.config["imported"]
    assert (origin["fold"], origin["trainer"], origin["configuration"]) == ("2", "nnUNetTrainer", "chosen")
    assert run.finished
    assert run.metrics[0]["train_loss"] == pytest.approx(0.5)
    assert run.manifest["files"]["weights.safetensors"]
    plan = read_plan(tmp_path / "run" / "plan.json")
    assert plan.recipe.augmentation.mirrored(3) == (1,)
    assert plan.inference.average == "logits"


def test_one_fold_becomes_one_run(results: Path, tmp_path: Path) -> None:
    (run,) = import_nnunet(results, tmp_path / "run", folds=[2])
    assert run.path == tmp_path / "run"
    assert run.config["fold"] == 2


def test_an_export_of_it_is_refused(results: Path, tmp_path: Path) -> None:
    import_nnunet(results, tmp_path / "run", folds=[0])
    with pytest.raises(InputError, match="its plan has axes of its own"):
        deconvseg.export(tmp_path / "run", tmp_path / "exported", format="torch-export")


def change_plans(folder: Path, change) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    change(plans, plans["configurations"]["chosen"])
    (folder / "plans.json").write_text(json.dumps(plans))


BAD_PLANS = {
    "a network class of one's own": (
        lambda plans, one: one["architecture"].update(network_class_name="my.package.Network"),
        "network_class_name is my.package.Network, which this package does not have, and no class is loaded by its",
    ),
    "a preprocessor of one's own": (
        lambda plans, one: one.update(preprocessor_name="MyPreprocessor"),
        "preprocessor_name is MyPreprocessor, code that this package does not have",
    ),
    "a function of one's own": (
        lambda plans, one: one.update(resampling_fn_data="my_function"),
        "no function is loaded by its name; .*resampling_fn_data 'my_function' is unknown",
    ),
    "a layer of no network": (
        lambda plans, one: one["architecture"]["arch_kwargs"].update(nonlin="os.system"),
        "nonlin='os.system': not a layer of torch.nn",
    ),
    "a cascade": (lambda plans, one: one.update(previous_stage="3d_lowres"), "second stage of a cascade"),
    "another scheme": (
        lambda plans, one: one.update(normalization_schemes=["MyScheme"]),
        "normalization_schemes 'MyScheme' is unknown",
    ),
    "another reader": (
        lambda plans, one: plans.update(image_reader_writer="Tiff3DIO"),
        "image_reader_writer 'Tiff3DIO' is unknown",
    ),
    "a wrong type": (lambda plans, one: one.update(patch_size="large"), "'patch_size': Input should be a valid list"),
    "another width": (
        lambda plans, one: one["architecture"]["arch_kwargs"].update(features_per_stage=[4, 6, 10]),
        r"its weights are not those of the network in plans.json; \d+ tensors differ",
    ),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_that_need_other_code_are_refused(results: Path, tmp_path: Path, name: str) -> None:
    change, message = BAD_PLANS[name]
    shutil.copytree(results, tmp_path / "results")
    change_plans(tmp_path / "results", change)
    with pytest.raises(InputError, match=message):
        import_nnunet(tmp_path / "results", tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_bad_checkpoints_and_folders_are_named(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    file = folder / "fold_0" / "checkpoint_final.pth"
    with pytest.raises(InputError, match=r"fold 4 has no checkpoint_final.pth; finished folds: 0, 2"):
        import_nnunet(folder, tmp_path / "run", folds=[4])
    with pytest.raises(InputError, match="results.* nnU-Net v1|has no plans.json"):
        import_nnunet(folder / "fold_0", tmp_path / "run")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged: the checksum of .* is wrong; copy it again"):
        import_nnunet(folder, tmp_path / "run")
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="or a damaged one"):
        import_nnunet(folder, tmp_path / "run")
    torch.save({"network_weights": Evil()}, file)
    with pytest.raises(InputError, match="holds an object of print, and objects that would run code"):
        import_nnunet(folder, tmp_path / "run")
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="not a checkpoint of PyTorch|objects that would run code"):
        import_nnunet(folder, tmp_path / "run")
    torch.save({"epoch": 3}, file)
    with pytest.raises(InputError, match="not a checkpoint of nnU-Net v2: it has no 'network_weights'"):
        import_nnunet(folder, tmp_path / "run")
    assert "must not run" not in capsys.readouterr().out


def test_results_of_version_1_are_named(tmp_path: Path) -> None:
    (tmp_path / "plans.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="of nnU-Net v1, whose plans are pickled"):
        import_nnunet(tmp_path, tmp_path / "run")


def test_networks_of_this_package_come_back_from_nnunet() -> None:
    strides = [[1, 1], [2, 2], [2, 1]]
    config = {"spatial_dims": 2, "widths": [8, 8, 8], "strides": strides, "deep_supervision_heads": 1}
    kept = {"model": "deconver", "config": config, "strides": strides}
    theirs = PlannedNetwork(1, 3, **kept).eval()
    x = torch.rand(1, 1, 16, 16)
    for dims, image in ((2, x), (3, x[:, :, None])):
        found = architecture_of(planned("PlannedNetwork", kept), 1, 3, dims, "plans.json")
        network = create_model(found.model["name"], **found.model["config"]).eval()
        network.load_weights(found.weights(theirs.state_dict(), "checkpoint"), "checkpoint")
        torch.testing.assert_close(network(image).reshape(1, 3, 16, 16), theirs(x))


def test_nnunets_network_with_dtc_comes_back_from_nnunet() -> None:
    named = Model(patch=(16, 16)).plans()["configurations"]["chosen"]["architecture"]["arch_kwargs"]
    kept = {"unet": "PlainConvUNet", "upsampling": "dtc+transposed", **named}
    layers = {"conv_op": torch.nn.Conv2d, "norm_op": torch.nn.InstanceNorm2d, "nonlin": torch.nn.LeakyReLU}
    theirs = UpsampledUNet(1, 3, **{**kept, **layers}).eval()
    found = architecture_of(planned("UpsampledUNet", kept), 1, 3, 2, "plans.json")
    network = create_model(found.model["name"], **found.model["config"]).eval()
    network.load_weights(found.weights(theirs.state_dict(), "checkpoint"), "checkpoint")
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(network(x), theirs(x), rtol=1e-4, atol=1e-4)


def planned(name: str, arguments: dict) -> Configuration:
    """A configuration with a network of this package, as `deconvseg nnunet plan` writes it."""
    architecture = {"network_class_name": f"deconvseg.integrations.nnunet.{name}", "arch_kwargs": arguments}
    return Configuration(
        patch_size=[16, 16],
        spacing=[1.0, 1.0],
        normalization_schemes=["ZScoreNormalization"],
        use_mask_for_norm=[False],
        architecture=architecture,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "configuration"), [("labels", "3d_fullres"), ("both", "2d")])
def test_models_that_nnunets_commands_train_give_their_masks(
    tmp_path: Path, real_data: Path, kind: str, configuration: str
) -> None:
    made = make_nnunet(tmp_path / "nnunet")
    made.shorten(epochs=1, iterations=20)
    name = add_hippocampus(made, real_data, 4, kind, 5)
    made.run(f"nnUNetv2_plan_and_preprocess -d 4 -c {configuration} -np 1 -npfp 1")
    made.shrink(name)
    made.run(f"nnUNetv2_train 4 {configuration} 0 -tr ShortTrainer -device cpu")
    images, theirs = made.raw / name / "imagesTs", tmp_path / "theirs"
    made.run(
        f"nnUNetv2_predict -i {images} -o {theirs} -d 4 -c {configuration} -f 0 -tr ShortTrainer -device cpu "
        "-npp 0 -nps 0"
    )
    import_nnunet(made.results / name / f"ShortTrainer__nnUNetPlans__{configuration}", tmp_path / "run")
    done = deconvseg.predict(images, tmp_path / "run", tmp_path / "ours", device="cpu")
    for file in done.written:
        ours, other = (np.asarray(nib.load(folder / file.name).dataobj) for folder in (file.parent, theirs))
        assert min(dice_of(ours, other, least=500)) >= 0.999
