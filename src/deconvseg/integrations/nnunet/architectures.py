"""The network that nnU-Net's plans name, as a registered network of this package, and its weights under our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.nnunet.results import Configuration
from deconvseg.models import create_model, list_models
from deconvseg.models.nnunet_architecture import ARCHITECTURES, NNUNetArchitecture, build_architecture
from deconvseg.system import FOREIGN_ERRORS, first_line

_PACKAGE = "dynamic_network_architectures."
_OWN = "deconvseg.integrations."
# nnU-Net's names of what a network of `nnunet_architecture` calls otherwise, and those of a network with DTC.
_PLAIN = {"upsampling.": "decoder.transpconvs.", "decoder.": "decoder.stages.", "head.": "decoder.seg_layers.{last}."}
_UPSAMPLED = {"upsampling.": "decoder.upsampling.", "decoder.": "decoder.stages.", "head.": "decoder.heads.{last}."}


@dataclass(frozen=True)
class Architecture:
    """The network of nnU-Net's plans: the entry ``model`` of a plan, and how its weights are called in nnU-Net.

    ``theirs`` makes nnU-Net's own network, whose state dict a checkpoint must have. ``renamed`` maps the beginnings of
    our names to theirs.
    """

    model: Mapping[str, Any]
    theirs: Callable[[], nn.Module]
    renamed: Mapping[str, str]

    def weights(self, found: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
        """Return the weights of the plan's network, from a state dict of nnU-Net's.

        nnU-Net's has several names for most layers, and heads of deep supervision, which are left out. Raises
        :class:`~deconvseg.errors.InputError` if it is not exactly the one that nnU-Net itself would load.
        """
        with torch.device("meta"):
            wanted = self.theirs().state_dict()
            ours = create_model(self.model["name"], **self.model["config"]).state_dict()
        _check_same(wanted, found, source)
        heads = {name.split(".")[2] for name in wanted if name.startswith(("decoder.seg_layers.", "decoder.heads."))}
        last = str(max(map(int, heads), default=0))
        return {name: found[self._name(name.removeprefix("plane."), last)] for name in ours}

    def _name(self, name: str, last: str) -> str:
        for start, other in self.renamed.items():
            if name.startswith(start):
                return other.format(last=last) + name.removeprefix(start)
        return name


def architecture_of(
    configuration: Configuration, channels: int, outputs: int, spatial_dims: int, where: str
) -> Architecture:
    """Return the network of a configuration for images with so many axes.

    Raises :class:`~deconvseg.errors.InputError` for a class that is not known, as none is imported by its name.
    """
    kind, given = configuration.architecture.get("network_class_name"), configuration.architecture.get("arch_kwargs")
    dims = len(configuration.patch_size)
    package, _, name = str(kind).rpartition(".")
    own = {"PlannedNetwork": _planned, "UpsampledUNet": _upsampled}
    make: Callable[..., Architecture] | None = None
    if f"{package}.".startswith(_PACKAGE) and name in ARCHITECTURES:
        make = partial(_plain, name)
    elif f"{package}.".startswith(_OWN):
        make = own.get(name)
    if make is None or not isinstance(given, Mapping):
        raise InputError(
            f"{where}: network_class_name is {kind}, which this package does not have, and no class is loaded by its "
            f"name; known are {', '.join(ARCHITECTURES)} of dynamic_network_architectures, and the networks that "
            "deconvseg plans for nnU-Net"
        )
    ends = {"in_channels": channels, "out_channels": outputs, "spatial_dims": dims}
    try:
        made = make(given, ends)
        with torch.device("meta"):
            create_model(made.model["name"], **made.model["config"])
    except MissingPackageError:
        raise
    except FOREIGN_ERRORS as error:
        raise InputError(f"{where}: architecture: {first_line(error)}") from error
    if dims == spatial_dims:
        return made
    # The 2D network sees the slices of a volume.
    sliced = {"name": "slicewise", "config": {**ends, "spatial_dims": spatial_dims, "network": made.model}}
    return Architecture(sliced, made.theirs, made.renamed)


def _plain(name: str, given: Mapping[str, Any], ends: Mapping[str, int]) -> Architecture:
    config = {**ends, "architecture": name, "arguments": dict(given)}
    theirs = partial(build_architecture, name, dict(given), *ends.values())
    return Architecture({"name": "nnunet_architecture", "config": config}, theirs, _PLAIN)


def _upsampled(given: Mapping[str, Any], ends: Mapping[str, int]) -> Architecture:
    """Return nnU-Net's own network with another upsampling, as this package plans it for nnU-Net."""
    rest = {name: value for name, value in given.items() if name not in ("unet", "upsampling")}
    config = {**ends, "architecture": given["unet"], "arguments": rest, "upsampling": given["upsampling"]}
    return Architecture({"name": "nnunet_architecture", "config": config}, partial(_Upsampled, config), _UPSAMPLED)


class _Upsampled(nn.Module):
    """The layers of nnU-Net's own network with another upsampling, under the names that they have in nnU-Net."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        network = NNUNetArchitecture(**config)
        ends = (config[name] for name in ("in_channels", "out_channels", "spatial_dims"))
        plain = build_architecture(config["architecture"], config["arguments"], *ends)
        self.encoder = network.encoder
        self.decoder = nn.Module()
        self.decoder.upsampling, self.decoder.stages = network.upsampling, network.decoder
        self.decoder.heads = plain.decoder.seg_layers


def _planned(given: Mapping[str, Any], ends: Mapping[str, int]) -> Architecture:
    """Return a registered network, as this package plans it for nnU-Net."""
    model = str(given["model"])
    if model not in list_models():
        raise InputError(f"model {model!r} is not registered here; install the package that registers it")
    config = {**given["config"], **ends}
    return Architecture({"name": model, "config": config}, partial(_Prefixed, model, config), {"": "network."})


class _Prefixed(nn.Module):
    """A registered network under the name that nnU-Net's network has it by."""

    def __init__(self, model: str, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = create_model(model, **config)


def _check_same(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Refuse a state dict with other names or shapes than nnU-Net's network of the plans has."""
    shapes = [{name: tuple(value.shape) for name, value in side.items()} for side in (wanted, found)]
    differing = sorted(n for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n))
    if differing:
        own, other = (side.get(differing[0], "none") for side in shapes)
        raise InputError(
            f"{source}: its weights are not those of the network in plans.json; {len(differing)} tensors differ, first "
            f"{differing[0]}: {other} instead of {own}. A trainer that builds another network is not imported"
        )
