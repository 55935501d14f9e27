"""Another upsampling in a trained network of nnU-Net: its checkpoints, and plans to train them further."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.integrations.nnunet.checkpoints import read_weights
from deconvseg.integrations.nnunet.installed import nnunet_folder
from deconvseg.integrations.nnunet.networks import UpsampledUNet, torch_class
from deconvseg.nn.upsampling import Upsampling, choose_upsampling
from deconvseg.options import takes
from deconvseg.options.nnunet import NNUNET_NETWORKS, NNUNetUpgradeOptions
from deconvseg.system import atomic_write, does_not_exist, make_folder, write_text

_CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class NNUNetUpgrade:
    """Plans with another upsampling, and a checkpoint of each fold for ``nnUNetv2_train`` to start from."""

    file: Path
    plans: str
    number: int
    configuration: str
    checkpoints: Mapping[str, Path]


@takes(NNUNetUpgradeOptions)
def upgrade_nnunet(asked: NNUNetUpgradeOptions) -> NNUNetUpgrade:
    """Put DTC or another upsampling into a trained network of nnU-Net, to be trained further by nnU-Net's own command.

    The plans of the results are written into ``nnUNet_preprocessed`` under a new name, with the same patches and
    preprocessed cases, and :class:`~deconvseg.integrations.nnunet.UpsampledUNet` as their network. Each new checkpoint
    has the trained weights. Layers that are added beside the trained ones, as in ``"dtc+transposed"``, start at zero if
    they can, so that the network computes what the trained one does.

    Raises :class:`~deconvseg.errors.InputError` for a folder that holds no results, a network that is not nnU-Net's
    own, and other plans of this name.

    Example:
        >>> from deconvseg.integrations.nnunet import upgrade_nnunet
        >>> upgrade = upgrade_nnunet("nnUNetTrainer__nnUNetPlans__3d_fullres", "UPGRADED")  # doctest: +SKIP
        >>> upgrade.checkpoints["0"].name  # doctest: +SKIP
        'fold_0.pth'

    """
    results, output = Path(asked.results), Path(asked.output)
    folds = _find_folds(results)
    plans = read_json_object(results / "plans.json")
    configuration = results.resolve().name.rpartition("__")[2]
    upgraded = _with_upsampling(plans, results / "plans.json", asked.upsampling)
    named = {**upgraded, "plans_name": asked.plans}
    if configuration not in named["configurations"]:
        raise InputError(f"{results}: its name does not end in a configuration of its plans.json; rename it back")
    file = nnunet_folder("nnUNet_preprocessed") / str(plans["dataset_name"]) / f"{asked.plans}.json"
    if file.is_file() and read_json_object(file) != named:
        raise InputError(f"`plans={asked.plans!r}`: {file} exists and is another; give another name")
    architecture = _architecture_of(named["configurations"], configuration)
    made = {}
    make_folder(output)
    for fold, checkpoint in folds.items():
        made[fold] = output / f"fold_{fold}.pth"
        weights = _upgrade(architecture, checkpoint)
        with atomic_write(made[fold]) as part:
            torch.save({"network_weights": weights}, part)
    write_text(file, json.dumps(named, indent=4) + "\n")
    return NNUNetUpgrade(file, asked.plans, int(str(plans["dataset_name"])[7:10]), configuration, made)


def _find_folds(results: Path) -> dict[str, Path]:
    if not results.is_dir():
        raise InputError(does_not_exist(results))
    found = {path.parent.name.removeprefix("fold_"): path for path in sorted(results.glob(f"fold_*/{_CHECKPOINT}"))}
    if not found or not (results / "plans.json").is_file():
        missing = _CHECKPOINT if (results / "plans.json").is_file() else "plans.json"
        raise InputError(
            f"{results}: has no {missing}; give a folder TRAINER__PLANS__CONFIGURATION whose training is finished"
        )
    return found


def _with_upsampling(plans: Mapping[str, Any], where: Path, upsampling: Upsampling) -> dict[str, Any]:
    """Return plans in which each network of nnU-Net's own has another upsampling."""
    configurations = {}
    for name, entry in plans["configurations"].items():
        architecture = entry.get("architecture")
        if architecture is None:
            if "inherits_from" not in entry:
                raise InputError(f"{where}: is of nnU-Net before 2.3, which names no networks; plan and train again")
            configurations[name] = entry
            continue
        unet = str(architecture["network_class_name"]).rpartition(".")[2]
        if unet not in NNUNET_NETWORKS:
            raise InputError(
                f"{where}: {name} has the network {architecture['network_class_name']}; only nnU-Net's own "
                f"{' and '.join(NNUNET_NETWORKS)} can be upgraded"
            )
        kept = {key: value for key, value in architecture["arch_kwargs"].items() if key != "deep_supervision"}
        changed = {
            "network_class_name": f"{__name__.rpartition('.')[0]}.{UpsampledUNet.__name__}",
            "arch_kwargs": {**kept, "unet": unet, "upsampling": upsampling},
            "_kw_requires_import": architecture["_kw_requires_import"],
        }
        configurations[name] = {**entry, "architecture": changed}
    return {**plans, "configurations": configurations}


def _architecture_of(configurations: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the architecture of a configuration, or of the one that it inherits from."""
    seen: list[str] = []
    while "architecture" not in configurations[name]:
        seen.append(name)
        name = str(configurations[name].get("inherits_from"))
        if name in seen or name not in configurations:
            raise InputError(f"configuration {seen[0]}: inherits no architecture; correct plans.json")
    architecture: Mapping[str, Any] = configurations[name]["architecture"]
    return architecture


def _upgrade(architecture: Mapping[str, Any], checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights of the network with its new upsampling, from those of nnU-Net's own network."""
    trained = read_weights(checkpoint)
    given = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        given[name] = given[name] and torch_class(given[name])
    given["upsampling"] = _from_zero(given["upsampling"])
    heads = [name for name in trained if name.startswith("decoder.seg_layers.") and name.endswith(".weight")]
    first = next((value for name, value in trained.items() if name.startswith("encoder.")), None)
    if not heads or first is None:
        raise InputError(f"{checkpoint}: has no encoder, or no decoder.seg_layers: it is not of nnU-Net's own network")
    network = UpsampledUNet(first.shape[1], len(trained[heads[0]]), **given)
    weights = network.state_dict()
    for name, source in _sources(weights):
        if source not in trained or trained[source].shape != weights[name].shape:
            found = tuple(trained[source].shape) if source in trained else "none"
            raise InputError(f"{checkpoint}: {source} is {found}, and its plans need {tuple(weights[name].shape)}")
        weights[name] = trained[source]
    return weights


def _from_zero(upsampling: Upsampling) -> Upsampling:
    """Return the upsampling with the layer that is added to the trained one at zero, where it has that option."""
    given = dict(upsampling) if isinstance(upsampling, Mapping) else {"kind": upsampling}
    chosen = choose_upsampling(given)
    if len(chosen.kinds) == 2 and chosen.base.name == "transposed" and chosen.has("init"):
        given.setdefault("init", "zero")
    return given


def _sources(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the names of the tensors that nnU-Net's own network has, and its names for them."""
    for name in weights:
        layer, _, rest = name.removeprefix("decoder.upsampling.").partition(".")
        if not name.startswith("decoder.upsampling."):
            yield name, name.replace("decoder.heads.", "decoder.seg_layers.")
        elif rest.startswith("base."):
            yield name, f"decoder.transpconvs.{layer}.{rest.removeprefix('base.')}"
        elif f"decoder.upsampling.{layer}.added" not in name and rest in ("weight", "bias"):
            yield name, f"decoder.transpconvs.{layer}.{rest}"
