"""DTC in trained networks of nnU-Net: which checkpoints and plans are taken, and what is written."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.integrations.nnunet import NNUNetUpgrade, upgrade_nnunet
from integrations.nnunet_results import Model, import_predictor

import_predictor()


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "preprocessed" / "Dataset007_Made").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return model().write(tmp_path / "nnUNetTrainer__nnUNetPlans__chosen")


def model(**arguments: Any) -> Model:
    """Slices, two folds, and arguments of the network."""
    made = Model(patch=(16, 16), folds=("0", "all"))
    architecture = made.plans()["configurations"]["chosen"]["architecture"]
    architecture["arch_kwargs"] |= arguments
    made.changes = {"architecture": architecture}
    return made


def change_plans(results: Path, change: Callable[[Any], object]) -> None:
    plans = json.loads((results / "plans.json").read_text())
    change(plans)
    (results / "plans.json").write_text(json.dumps(plans))


def rewrite(checkpoint: Path, change: Callable[[Any], Any]) -> None:
    torch.save(change(torch.load(checkpoint, weights_only=False)), checkpoint)


def upgraded(results: Path) -> NNUNetUpgrade:
    return upgrade_nnunet(results, results.parent / "out")


def weights_of(file: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(file, weights_only=False)["network_weights"]
    return weights


def test_each_fold_has_the_trained_weights(results: Path) -> None:
    made = upgraded(results)
    assert sorted(made.checkpoints) == ["0", "all"]
    assert (made.number, made.configuration) == (7, "chosen")
    for fold, file in made.checkpoints.items():
        theirs = weights_of(results / f"fold_{fold}" / "checkpoint_final.pth")
        ours = weights_of(file)
        for name, source in (("decoder.heads.1.weight", "seg_layers.1.weight"), ("decoder.stages.0.", "stages.0.")):
            found = next(value for key, value in ours.items() if key.startswith(name))
            assert torch.equal(found, next(value for key, value in theirs.items() if f"decoder.{source}" in key))
    network = json.loads(made.file.read_text())["configurations"]["chosen"]["architecture"]["network_class_name"]
    assert network == "deconvseg.integrations.nnunet.UpsampledUNet"


def test_checkpoints_of_numpy_1_are_read(results: Path) -> None:
    expected = weights_of(upgraded(results).checkpoints["0"])
    file = results / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    members[pickled] = members[pickled].replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"cnumpy.core.multiarray\nscalar" in members[pickled]
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found = weights_of(upgraded(results).checkpoints["0"])
    kept = [name for name in expected if ".added." not in name]
    assert all(torch.equal(found[name], expected[name]) for name in kept)


def test_weights_of_several_devices_are_read(results: Path) -> None:
    def prefixed(content: Any) -> Any:
        return {**content, "network_weights": {f"module.{n}": v for n, v in content["network_weights"].items()}}

    rewrite(results / "fold_0" / "checkpoint_final.pth", prefixed)
    assert set(upgraded(results).checkpoints) == {"0", "all"}


def test_every_layer_of_an_imported_network_is_known(results: Path) -> None:
    layers: dict[str, Any] = {
        "nonlin": "torch.nn.Mish",
        "nonlin_kwargs": {},
        "dropout_op": "torch.nn.modules.dropout.Dropout",
    }
    layers["dropout_op_kwargs"] = {"p": 0.1}
    made = upgraded(model(**layers).write(results.parent / "layers" / results.name))
    assert set(made.checkpoints) == {"0", "all"}


class _Harm:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


BAD_CHECKPOINTS = {
    "an object": (lambda content: {**content, "network_weights": _Harm()}, "holds an object of print"),
    "no weights": (lambda content: {"weights": {}}, "has no 'network_weights'"),
    "no mapping": (lambda content: [1], "not a checkpoint of nnU-Net v2"),
    "another network": (
        lambda content: {**content, "network_weights": {"head.weight": torch.ones(2, 2)}},
        "has no encoder, or no decoder.seg_layers",
    ),
    "other sizes": (
        lambda content: {
            **content,
            "network_weights": {n: v.repeat(2, *[1] * (v.ndim - 1)) for n, v in content["network_weights"].items()},
        },
        "its weights are not those of the network in plans.json",
    ),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_refused_before_anything_is_written(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = BAD_CHECKPOINTS[name]
    rewrite(results / "fold_all" / "checkpoint_final.pth", change)
    with pytest.raises(InputError, match=message):
        upgraded(results)
    assert "executed" not in capsys.readouterr().out
    assert not (results.parent / "out").exists()


def test_a_damaged_checkpoint_is_refused(results: Path) -> None:
    file = results / "fold_0" / "checkpoint_final.pth"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged: the checksum of .* is wrong"):
        upgraded(results)


def without(name: str) -> Callable[[Any], object]:
    return lambda plans: plans.pop(name)


def architecture_with(**changes: Any) -> Callable[[Any], object]:
    return lambda plans: plans["configurations"]["chosen"]["architecture"].update(changes)


def argument(**changes: Any) -> Callable[[Any], object]:
    return lambda plans: plans["configurations"]["chosen"]["architecture"]["arch_kwargs"].update(changes)


BAD_PLANS = {
    "a path": (
        lambda plans: plans.update(dataset_name="../../escaped"),
        r"dataset_name '\.\./\.\./escaped' is no name",
    ),
    "no number": (lambda plans: plans.update(dataset_name="Dataset_Made"), "dataset_name 'Dataset_Made' is no name"),
    "no folder": (lambda plans: plans.update(dataset_name="Dataset008_B"), "Dataset008_B does not exist.*; preprocess"),
    "no dataset": (without("dataset_name"), "plans.json: 'dataset_name': Field required"),
    "no configurations": (without("configurations"), "plans.json: 'configurations': Field required"),
    "a network of one's own": (
        architecture_with(network_class_name="their.Transformer"),
        r"chosen has the network their\.Transformer; only nnU-Net's own PlainConvUNet",
    ),
    "no architecture": (lambda plans: plans["configurations"]["chosen"].pop("architecture"), "'architecture': Field"),
    "no arguments": (architecture_with(arch_kwargs=None), "only nnU-Net's own PlainConvUNet"),
    "a class that is no layer": (argument(conv_op="os.system"), r"conv_op='os\.system': not a layer of torch\.nn"),
    "an unknown argument": (argument(depth=3), "argument 'depth' is unknown"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_bad_plans_are_refused_before_anything_is_written(name: str, results: Path) -> None:
    change, message = BAD_PLANS[name]
    change_plans(results, change)
    before = sorted(results.parent.rglob("*"))
    with pytest.raises(InputError, match=message):
        upgraded(results)
    assert sorted(results.parent.rglob("*")) == before


def test_plans_before_networks_were_named_are_refused(results: Path) -> None:
    change_plans(results, lambda plans: plans["configurations"]["chosen"]["architecture"].pop("_kw_requires_import"))
    with pytest.raises(InputError, match=r"of nnU-Net before 2\.3, which names no networks"):
        upgraded(results)


def test_folders_that_are_no_results_are_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        upgraded(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no plans\.json; give the folder TRAINER__PLANS__CONFIGURATION"):
        upgraded(results / "fold_0")
    with pytest.raises(InputError, match="does not end in a configuration"):
        upgraded(results.rename(tmp_path / "results"))


def test_configurations_with_other_networks_stay_as_they_are(results: Path) -> None:
    def extend(plans: Any) -> None:
        theirs = {"network_class_name": "their.Transformer", "arch_kwargs": {}}
        configurations = plans["configurations"]
        configurations["theirs"] = {**configurations["chosen"], "architecture": theirs}
        configurations["parent"] = configurations.pop("chosen")
        configurations["chosen"] = {"inherits_from": "parent", "batch_size": 3}

    change_plans(results, extend)
    before = json.loads((results / "plans.json").read_text())["configurations"]
    made = json.loads(upgraded(results).file.read_text())["configurations"]
    assert (made["theirs"], made["chosen"]) == (before["theirs"], before["chosen"])
    assert made["parent"]["architecture"]["arch_kwargs"]["upsampling"] == "dtc+transposed"
