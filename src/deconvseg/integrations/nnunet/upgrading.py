"""Another upsampling in a trained network of nnU-Net: its checkpoints, and plans to train them further."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.integrations.nnunet.architectures import architecture_of
from deconvseg.integrations.nnunet.importing import Checkpoint
from deconvseg.integrations.nnunet.installed import DATASET_NAME, nnunet_folder
from deconvseg.integrations.nnunet.networks import UpsampledUNet
from deconvseg.integrations.nnunet.results import Configuration, Results, finished_folds
from deconvseg.models.nnunet_architecture import find_layer
from deconvseg.nn.upsampling import Upsampling, choose_upsampling
from deconvseg.options import takes
from deconvseg.options.nnunet import NNUNET_NETWORKS, NNUNetUpgradeOptions
from deconvseg.system import atomic_write, does_not_exist, make_folder, write_text


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
    opened = Results.open(results, [*finished_folds(results)] or None)
    where, dataset = results / "plans.json", opened.plans.dataset_name
    name = results.resolve().name.rpartition("__")[2]
    if name not in opened.plans.configurations:
        raise InputError(f"{results}: its name does not end in a configuration of its plans.json; rename it back")
    if DATASET_NAME.fullmatch(dataset) is None:
        raise InputError(f"{where}: dataset_name {dataset!r} is no name such as Dataset004_Hippocampus; correct it")
    configuration = opened.configuration(name)
    architecture = _with_upsampling(configuration.architecture, asked.upsampling)
    if architecture is None:
        _refuse(configuration.architecture, name, where)
    named = _renamed(read_json_object(where), asked)
    file = nnunet_folder("nnUNet_preprocessed") / dataset / f"{asked.plans}.json"
    if not file.parent.is_dir():
        raise InputError(f"{does_not_exist(file.parent)}; preprocess the dataset with nnU-Net first")
    if file.is_file() and read_json_object(file) != named:
        raise InputError(f"`plans={asked.plans!r}`: {file} exists and is another; give another name")
    # Tensors are mapped from their files, so all folds are ready before anything is written.
    ready = {fold.name: _upgrade(configuration, architecture, fold.final, where) for fold in opened.folds}
    make_folder(output)
    made = {fold: output / f"fold_{fold}.pth" for fold in ready}
    for fold, weights in ready.items():
        with atomic_write(made[fold]) as part:
            torch.save({"network_weights": weights}, part)
    write_text(file, json.dumps(named, indent=4) + "\n")
    return NNUNetUpgrade(file, asked.plans, int(dataset[7:10]), name, made)


def _with_upsampling(architecture: Any, upsampling: Upsampling) -> dict[str, Any] | None:
    """Return an architecture with another upsampling, or None for a network that is not nnU-Net's own."""
    if not isinstance(architecture, Mapping):
        return None
    package, _, unet = str(architecture.get("network_class_name")).rpartition(".")
    given, imported = architecture.get("arch_kwargs"), architecture.get("_kw_requires_import")
    own = package.startswith("dynamic_network_architectures.") and unet in NNUNET_NETWORKS
    if not own or not isinstance(given, Mapping) or not isinstance(imported, list):
        return None
    kept = {key: value for key, value in given.items() if key != "deep_supervision"}
    return {
        "network_class_name": f"{__name__.rpartition('.')[0]}.{UpsampledUNet.__name__}",
        "arch_kwargs": {**kept, "unet": unet, "upsampling": upsampling},
        "_kw_requires_import": imported,
    }


def _refuse(architecture: Mapping[str, Any], name: str, where: Path) -> NoReturn:
    if "_kw_requires_import" not in architecture:
        raise InputError(f"{where}: of nnU-Net before 2.3, which names no networks; plan and train again")
    raise InputError(
        f"{where}: {name} has the network {architecture.get('network_class_name')}; only nnU-Net's own "
        f"{' and '.join(NNUNET_NETWORKS)} can be upgraded"
    )


def _renamed(plans: Mapping[str, Any], asked: NNUNetUpgradeOptions) -> dict[str, Any]:
    """Return plans with their new name and upsampling; configurations with other networks stay as they are.

    All of nnU-Net's own networks are changed, so that several configurations can be upgraded under one name.
    """
    configurations = {}
    for name, entry in plans["configurations"].items():
        changed = _with_upsampling(entry.get("architecture"), asked.upsampling)
        configurations[name] = entry if changed is None else {**entry, "architecture": changed}
    return {**plans, "configurations": configurations, "plans_name": asked.plans}


def _upgrade(
    configuration: Configuration, architecture: Mapping[str, Any], checkpoint: Path, where: Path
) -> dict[str, Tensor]:
    """Return the weights of the network with its new upsampling, from those of nnU-Net's own network."""
    trained = Checkpoint.read(checkpoint).weights
    kernels = {name: value for name, value in trained.items() if name.endswith(".weight") and value.ndim > 2}
    heads = [value for name, value in kernels.items() if name.startswith("decoder.seg_layers.")]
    first = next((value for name, value in kernels.items() if name.startswith("encoder.")), None)
    if not heads or first is None:
        raise InputError(f"{checkpoint}: has no encoder, or no decoder.seg_layers: it is not of nnU-Net's own network")
    ends, dims = (first.shape[1], len(heads[0])), len(configuration.patch_size)
    # What is not exactly nnU-Net's network of these plans is refused.
    architecture_of(configuration, *ends, dims, str(where)).weights(trained, str(checkpoint))
    given = {name: find_layer(name, value) for name, value in architecture["arch_kwargs"].items()}
    given["upsampling"] = _from_zero(given["upsampling"])
    weights = UpsampledUNet(*ends, **given).state_dict()
    return {**weights, **{name: trained[source] for name, source in _sources(weights)}}


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
