"""The sides of network.py: networks in engines and precisions, each as one step to time."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import exported
import torch
from common import make_network_step
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.catalog import PRESETS
from deconvseg.models import Deconver, load_official, preset_arguments
from deconvseg.ops import use_backend

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Side:
    """A network in an engine and a precision; ``how`` tells autocast, ``.bfloat16()`` and our reference apart."""

    network: str
    engine: str = "torch"
    precision: str = "float32"
    how: str = ""

    @property
    def name(self) -> str:
        parts = [self.network, "" if self.engine == "torch" else self.engine, self.how, self.precision]
        return " ".join(part for part in parts if part)


def list_sides(options: argparse.Namespace) -> list[Side]:
    """Every side of a comparison, the one that the others are compared with first."""
    lower, train = options.precision, options.train
    precisions = [lower] if lower == "float32" else [lower, "float32"]
    sides = [Side("ours", precision=lower)]
    if len(precisions) == 2:
        sides += [] if train else [Side("ours", precision=lower, how="cast")]
        sides.append(Side("ours"))
    if options.reference:
        sides.append(Side("ours", precision=lower, how="reference"))
    peers = [*(["official"] if options.official else []), *options.against]
    sides += [Side(network, precision=precision) for network in peers for precision in precisions]
    for engine in options.engines:
        if engine == "torch" or train or options.device != "cpu":
            continue
        # ONNX Runtime has no kernels in half precision for CPUs.
        taken = precisions if engine == "openvino" else ["float32"]
        networks = ["ours", *options.exported]
        sides += [Side(network, engine, precision) for network in networks for precision in taken]
    return sides


def network_of_ours(preset: str, kernel: int) -> nn.Module:
    torch.manual_seed(0)
    return create_model("deconver", preset, kernel_size=kernel)


def network_of_the_authors(checkout: str, preset: str, kernel: int) -> nn.Module:
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    from deconver import Deconver

    settings = preset_arguments("deconver", preset)
    dims, widths = settings["spatial_dims"], settings["widths"]
    torch.manual_seed(0)
    return Deconver(
        settings["in_channels"],
        settings["out_channels"],
        spatial_dims=dims,
        encoder_width=widths,
        encoder_depth=(1,) * len(widths),
        decoder_depth=(1,) * (len(widths) - 1),
        strides=(1,) + (2,) * (len(widths) - 1),
        norm={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        kernel_size=(kernel,) * dims,
        ratio=4,
        groups=-1,
        eps=1e-8,
    )


def network_of_monai(preset: str) -> nn.Module:
    """MONAI's DynUNet with the paper's widths, and the weights of this package's form of it."""
    from monai.networks.nets import DynUNet

    settings = preset_arguments("nnunet", preset)
    stages = len(settings["widths"])
    strides = [1] + [2] * (stages - 1)
    network = DynUNet(
        settings["spatial_dims"],
        settings["in_channels"],
        settings["out_channels"],
        [3] * stages,
        strides,
        strides[1:],
        filters=settings["widths"],
        norm_name=("INSTANCE", {"affine": False}),
    )
    torch.manual_seed(0)
    source = create_model("nnunet", preset).state_dict()
    # DynUNet names some of its weights twice.
    network.load_state_dict(source, strict=False)
    return network


def make_network(name: str, options: argparse.Namespace) -> nn.Module:
    """Return a network by name; ours has the weights of the authors' network where that is compared, too."""
    if name == "ours":
        network = network_of_ours(options.preset, options.kernel)
        if options.official:
            assert isinstance(network, Deconver), "the authors' repository has nothing else"
            theirs = network_of_the_authors(options.official, options.preset, options.kernel)
            load_official(network, theirs.state_dict())
    elif name == "official":
        network = network_of_the_authors(options.official, options.preset, options.kernel)
    elif name == "dynunet":
        network = network_of_monai(options.preset)
    else:
        torch.manual_seed(0)
        network = create_model(name, options.preset)
    return network.to(options.device).train(options.train)


def make_step(side: Side, options: argparse.Namespace, file: Path | None = None) -> Callable[[], Tensor]:
    """One patch of inference, or one step of training, of a side; ``file`` is the exported network of an engine."""
    torch.set_num_threads(options.threads)
    image = make_image(options)
    if side.engine == "openvino":
        assert file is not None, "OpenVINO runs files"
        default = exported.default_precision() == side.precision
        return exported.run_openvino(file, image, options.threads, None if default else side.precision)
    if side.engine == "onnxruntime":
        assert file is not None, "ONNX Runtime runs files"
        return exported.run_onnxruntime(file, image, options.threads)
    network = make_network(side.network, options)
    precision = PRECISIONS[side.precision]
    if side.how == "cast":
        network, image = network.to(precision), image.to(precision)
    step = make_network_step(
        network, image, train=options.train, precision=torch.float32 if side.how == "cast" else precision
    )
    if side.how != "reference":
        return step

    def step_by_reference() -> Tensor:
        with use_backend("reference"):
            return step()

    return step_by_reference


def make_image(options: argparse.Namespace) -> Tensor:
    preset = PRESETS[options.preset]
    size = (options.size,) * len(preset.patch_size) if options.size else preset.patch_size
    generator = torch.Generator().manual_seed(1)
    image = torch.randn((options.batch, preset.ends["in_channels"], *size), generator=generator)
    return image.to(options.device)
