"""Runs made of nnU-Net's models: the masks of nnU-Net itself."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import deconvseg
from deconvseg.data import read_image, read_label_map
from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning import read_plan
from deconvseg.runs import Run
from integrations.nnunet_results import Model, dice_of, import_predictor, predict_with_nnunet, write_picture, write_scan
from nnunet_peer import add_hippocampus, make_nnunet

peer = import_predictor()
from deconvseg.integrations import PlannedNetwork, UpsampledUNet, import_nnunet, pack  # noqa: E402
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


@pytest.mark.parametrize(
    ("channels", "scheme"),
    [
        (("grey",), "ZScoreNormalization"),
        (("R", "G", "B"), "ZScoreNormalization"),
        (("rgb_to_0_1",) * 3, "RGBTo01Normalization"),
    ],
    ids=["grey", "colour", "colour by its scheme"],
)
def test_masks_of_pictures_have_the_names_and_labels_of_nnunet(
    tmp_path: Path, channels: tuple[str, ...], scheme: str
) -> None:
    model = Model(
        channels=channels,
        schemes=(scheme,) * len(channels),
        masked=(False,) * len(channels),
        spacing=(1.0, 1.0),
        median=(999.0, 1.0, 1.0),
        patch=(16, 24),
        mirrored=(0, 1),
        reader="NaturalImage2DIO",
        ending=".png",
    )
    results, images = model.write(tmp_path / "results"), tmp_path / "imagesTs"
    images.mkdir()
    for seed, name in enumerate(("case", "other")):
        write_picture(images / f"{name}_0000.png", (38, 45), len(channels), seed)
    predict_with_nnunet(peer, results, images, tmp_path / "theirs", model.folds)
    import_nnunet(results, tmp_path / "run")
    done = deconvseg.predict(images, tmp_path / "run", tmp_path / "ours", device="cpu")
    assert [path.name for path in done.written] == ["case.png", "other.png"]
    for file in done.written:
        ours, theirs = (read_label_map(folder / file.name).pixels for folder in (file.parent, tmp_path / "theirs"))
        assert len(np.unique(theirs)) > 1
        assert min(dice_of(ours, theirs, least=100)) >= 0.999
    # The masks belong to those of nnU-Net by their names.
    assert deconvseg.evaluate(tmp_path / "theirs", tmp_path / "ours", run=tmp_path / "run").mean_dice > 0.999


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


def test_several_folds_are_packed_as_a_cross_validation(results: Path, tmp_path: Path) -> None:
    import_nnunet(results, tmp_path / "run")
    whole = Run.open(tmp_path / "run")
    assert (whole.finished, whole.config["folds"], whole.splits["test"]) == (True, 2, [])
    assert pack(tmp_path / "run", tmp_path / "run.dseg.zip").folds == 2
    write_scan(tmp_path / "scan.nii.gz", (20, 26, 18), (1.0, 1.0, 1.0))
    image = read_image(tmp_path / "scan.nii.gz")
    own, packed = (deconvseg.predict(image, tmp_path / name, device="cpu") for name in ("run", "run.dseg.zip"))
    assert own.pixels.any()
    np.testing.assert_array_equal(packed.pixels, own.pixels)


def test_one_fold_becomes_one_run(results: Path, tmp_path: Path) -> None:
    (run,) = import_nnunet(results, tmp_path / "run", folds=[2])
    assert run.path == tmp_path / "run"
    assert run.config["fold"] == 2


def test_an_export_of_it_is_refused(results: Path, tmp_path: Path) -> None:
    import_nnunet(results, tmp_path / "run", folds=[0])
    with pytest.raises(InputError, match="its plan has axes of its own"):
        deconvseg.export(tmp_path / "run", tmp_path / "exported", format="torch-export")


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
