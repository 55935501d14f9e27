"""Results of nnU-Net that are refused: code of their own, entries of another kind, damaged files."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from deconvseg.errors import InputError
from integrations.nnunet_results import Model, import_predictor

import_predictor()
from deconvseg.integrations import import_nnunet  # noqa: E402


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Model(folds=("0", "2")).write(tmp_path_factory.mktemp("nnunet") / "results")


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
    "a network of this package without its options": (
        lambda plans, one: one.update(architecture=planned({"model": "deconver", "config": None})),
        "plans.json: architecture: 'NoneType' object is not a mapping",
    ),
    "strides of other axes": (
        lambda plans, one: one["architecture"]["arch_kwargs"].update(strides=[[1, 1], [2, 2], [2, 2]]),
        r"its arguments do not fit each other: strides \[1, 1\] for 3 axes",
    ),
    "negative widths": (
        lambda plans, one: one["architecture"]["arch_kwargs"].update(features_per_stage=[-4, 6, 8]),
        "its arguments do not fit each other: .*negative",
    ),
    "no spacing": (
        lambda plans, one: plans.update(original_median_spacing_after_transp=[]),
        "'original_median_spacing_after_transp': List should have at least 3 items",
    ),
    "one distance": (
        lambda plans, one: plans.update(original_median_spacing_after_transp=[1.0]),
        "'original_median_spacing_after_transp': List should have at least 3 items",
    ),
    "an early version without its entries": (
        lambda plans, one: one.update(UNet_class_name=one.pop("architecture") and "PlainConvUNet"),
        "plans.json: 'UNet_base_num_features': Field required",
    ),
}


def planned(arguments: dict) -> dict:
    """A network of this package, as `deconvseg nnunet plan` writes it."""
    return {"network_class_name": "deconvseg.integrations.nnunet.PlannedNetwork", "arch_kwargs": arguments}


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


BAD_ENTRIES = {
    "inference_allowed_mirroring_axes": [
        (1, "inference_allowed_mirroring_axes: Input should be"),
        ([True], "inference_allowed_mirroring_axes.0: Input should be a valid integer"),
        ((3,), "inference_allowed_mirroring_axes.0: Input should be less than or equal to 2"),
    ],
    "current_epoch": [(None, "current_epoch: Input should be a valid integer")],
    "init_args": [({"configuration": None}, "init_args.configuration: Input should be a valid string")],
    "logging": [({"lrs": [None]}, "logging.lrs.0: Input should be a valid number")],
}


@pytest.mark.parametrize(("key", "value", "message"), [(key, *row) for key in BAD_ENTRIES for row in BAD_ENTRIES[key]])
def test_entries_of_a_checkpoint_of_another_kind_are_named(
    results: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    shutil.copytree(results, tmp_path / "results")
    file = tmp_path / "results" / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, key: value}, file)
    with pytest.raises(InputError, match=f"checkpoint_final.pth: not a checkpoint of nnU-Net v2: {message}"):
        import_nnunet(tmp_path / "results", tmp_path / "run")
    torch.save([content], file)
    with pytest.raises(InputError, match="not a checkpoint of nnU-Net v2: a list: Input should be"):
        import_nnunet(tmp_path / "results", tmp_path / "run")
