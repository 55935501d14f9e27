"""The network of a configuration of nnU-Net: for its stages and its patch, with the memory that a training takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import nn

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.integrations.nnunet.networks import PlannedNetwork, UpsampledUNet
from deconvseg.models import Grid, complexity, list_arguments, list_models
from deconvseg.models.nnunet_architecture import find_layer
from deconvseg.nn.upsampling import Upsampling
from deconvseg.options.nnunet import NNUNET_NETWORKS
from deconvseg.planning.fitting import fit_network

# nnU-Net measures memory in values that its convolutions compute for one sample. One of them stands for so many bytes
# of a training step in float32, gradients of activations included (PlainConvUNet of its reference, 128³ and 512²).
BYTES_PER_VALUE = {2: 9.65, 3: 10.39}

_HEADS = "deep_supervision_heads"


@dataclass(frozen=True)
class Stages:
    """The stages of a network as nnU-Net plans them: strides and kernels, one per stage and axis."""

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Stages":
        """Return the stages of nnU-Net's arguments of a network."""
        strides, kernels = arguments["strides"], arguments["kernel_sizes"]
        return cls(tuple(tuple(map(int, step)) for step in strides), tuple(tuple(map(int, size)) for size in kernels))


@dataclass(frozen=True)
class Draft:
    """An architecture for nnU-Net's plans, and a patch size that it takes."""

    label: str
    architecture: Mapping[str, Any]
    patch: tuple[int, ...]

    def create(self, channels: int, outputs: int) -> nn.Module:
        """Return the network without values, with deep supervision."""
        given = {name: find_layer(name, value) for name, value in self.architecture["arch_kwargs"].items()}
        kind = PlannedNetwork if "model" in given else UpsampledUNet
        with torch.device("meta"):
            return kind(channels, outputs, True, **given)

    def values(self, channels: int, outputs: int) -> float:
        """Return the memory of a training step with one sample, in nnU-Net's measure."""
        counted = complexity(self.create(channels, outputs), (1, channels, *self.patch))
        if counted.training_bytes is None:
            raise DeconvsegError(f"the memory of {self.label} is not known: {counted.training_failure}")
        return counted.training_bytes / BYTES_PER_VALUE[len(self.patch)]


@dataclass(frozen=True)
class Drafting:
    """What was asked for: a network by name, its upsampling and its width, if they are to be chosen."""

    model: str
    upsampling: Upsampling | None
    width: int | None

    def __post_init__(self) -> None:
        own = self.model in NNUNET_NETWORKS
        if own and self.width is not None:
            raise InputError(f"`width={self.width}`: {self.model} has nnU-Net's own widths; leave it out")
        if not own and self.upsampling is not None and "upsampling" not in list_arguments(self.model):
            fitting = ", ".join(name for name in list_models() if "upsampling" in list_arguments(name))
            raise InputError(
                f"`upsampling={self.upsampling!r}`: model {self.model!r} has none to choose; leave it out, or give one "
                f"of {fitting}, {', '.join(NNUNET_NETWORKS)}"
            )

    def drafts(self, stages: Stages, patch: Sequence[int], architecture: Mapping[str, Any]) -> list[Draft]:
        """Return the sizes of the network for stages and a patch of nnU-Net, narrowest first.

        ``architecture`` is nnU-Net's own for them.
        """
        if self.model in NNUNET_NETWORKS:
            upsampling = "dtc+transposed" if self.upsampling is None else self.upsampling
            given = {**architecture["arch_kwargs"], "unet": self.model, "upsampling": upsampling}
            return [Draft(self.model, _architecture(UpsampledUNet, given, architecture), tuple(map(int, patch)))]
        dims = len(patch)
        ends: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "spatial_dims": dims}
        if self.upsampling is not None:
            ends["upsampling"] = self.upsampling
        reaches = tuple(tuple(size > 1 for size in kernel) for kernel in stages.kernels)
        sizes = tuple(float(n) for n in patch)
        grid = Grid("gpu", sizes, whole=True, strides=stages.strides, reaches=reaches, width=self.width)
        taken, found = fit_network(self.model, ends, grid)
        return [Draft(label, self._planned(config, taken), taken) for label, config in found]

    def _planned(self, config: Mapping[str, Any], patch: Sequence[int]) -> dict[str, Any]:
        config = {name: value for name, value in config.items() if name not in ("in_channels", "out_channels")}
        if _HEADS in list_arguments(self.model) and "strides" in config:
            strides = [list(step) for step in config["strides"]]
            config[_HEADS] = len(strides) - 2
        else:
            # nnU-Net gives the lowest resolution no weight; the one before is that of the logits.
            half = [2 if n % 2 == 0 else 1 for n in patch]
            strides = [[1] * len(patch), half, half]
        return _architecture(PlannedNetwork, {"model": self.model, "config": config, "strides": strides})


def _architecture(
    network: type[nn.Module], given: Mapping[str, Any], own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    # The place of the public name, which nnU-Net imports wherever the network is built.
    package = __name__.rpartition(".")[0]
    return {
        "network_class_name": f"{package}.{network.__name__}",
        "arch_kwargs": dict(given),
        "_kw_requires_import": list(own["_kw_requires_import"]) if own else [],
    }


def gigabytes(values: float, batch: int, reference: float, reference_batch: int, reference_gigabytes: float) -> float:
    """Return the GPU memory of a training in nnU-Net's measure, in which a reference stands for gigabytes."""
    return ceil(10 * reference_gigabytes * values * batch / (reference * reference_batch)) / 10
