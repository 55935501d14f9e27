"""Networks behind our names against the public forms that run on a CPU: equal logits, then time and peak memory.

Those of MONAI and dynamic-network-architectures stand against these packages' own; nnMamba and SegMamba, whose authors'
code needs a GPU, against themselves with the selective scans step by step in plain PyTorch.

``python benchmarks/peers.py --dims 3 --size 64 --json OUT`` times inference of one image for each network with the same
weights on both sides, one network after the other; ``--train`` a step forward and backward.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from common import (
    asked,
    machine,
    make_network_step,
    make_parser,
    peak_megabytes,
    ratios,
    relative_error,
    report,
    spread,
    time_in_turn,
)
from monai.networks import nets
from monai.networks.nets.mednext import create_mednext
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.models import Network
from deconvseg.ops import selective_scan, use_backend

CHANNELS: dict[str, Any] = {"in_channels": 1, "out_channels": 2}
WIDTHS = (32, 64, 128, 256, 512)


def dynunet(dims: int, size: int) -> nn.Module:
    stages = len(WIDTHS)
    strides = [1] + [2] * (stages - 1)
    norm = ("INSTANCE", {"affine": False})
    return nets.DynUNet(dims, 1, 2, [3] * stages, strides, strides[1:], filters=WIDTHS, norm_name=norm)


def segresnet(dims: int, size: int) -> nn.Module:
    return nets.SegResNet(dims, 64, 1, 2, upsample_mode="deconv")


def unetr(dims: int, size: int) -> nn.Module:
    return nets.UNETR(1, 2, size, feature_size=32, spatial_dims=dims)


def swin_unetr(dims: int, size: int, *, v2: bool) -> nn.Module:
    return nets.SwinUNETR(1, 2, feature_size=48, spatial_dims=dims, use_v2=v2)


def unet_plus_plus(dims: int, size: int) -> nn.Module:
    return nets.BasicUNetPlusPlus(dims, 1, 2, (32, 32, 64, 128, 256, 32), bias=False)


def mednext(dims: int, size: int) -> nn.Module:
    return create_mednext("S", dims, 1, 2)


# What dynamic-network-architectures calls the parts of a network of six stages.
RESENC_NAMES = {
    "upsampling.": "decoder.transpconvs.", "decoder.": "decoder.stages.", "head.": "decoder.seg_layers.4.",
}  # fmt: skip


def resenc(dims: int, size: int) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    widths = [min(32 * 2**stage, {2: 512, 3: 320}[dims]) for stage in range(6)]
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    return ResidualEncoderUNet(
        1, 6, widths, conv, 3, [1, 2, 2, 2, 2, 2], [1, 3, 4, 6, 6, 6], 2, 1, conv_bias=True, norm_op=norm,
        norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip


class ScansByStep(nn.Module):
    """One of our networks whose selective scans are the loop over steps; everything else is as it is."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        with patch("deconvseg.nn.mamba.selective_scan", scan_by_step):
            return self.network(x)


def scan_by_step(*inputs: Any, **options: Any) -> Tensor:
    with use_backend("reference"):
        return selective_scan(*inputs, **options)


def by_step(dims: int, size: int, *, name: str) -> nn.Module:
    return ScansByStep(create_model(name, spatial_dims=dims, **CHANNELS))


# What each side calls the same network.
PEERS: Mapping[str, tuple[Callable[[int, int], nn.Module], Mapping[str, Any]]] = {
    "nnunet": (dynunet, {"widths": WIDTHS}),
    "segresnet": (segresnet, {"init_filters": 64}),
    "unetr": (unetr, {"feature_size": 32}),
    "swin_unetr": (partial(swin_unetr, v2=False), {"feature_size": 48}),
    "swin_unetr_v2": (partial(swin_unetr, v2=True), {"feature_size": 48}),
    "unet_plus_plus": (unet_plus_plus, {"norm": "instance_affine"}),
    "mednext": (mednext, {"size": "S"}),
    "nnmamba": (partial(by_step, name="nnmamba"), {}),
    "segmamba": (partial(by_step, name="segmamba"), {}),
    **({"nnunet_resenc": (resenc, {})} if find_spec("dynamic_network_architectures") else {}),
}


def make_network(name: str, side: str, options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    theirs, arguments = PEERS[name]
    if side == "peer":
        network = theirs(options.dims, options.size)
    else:
        fixed: dict[str, Any] = {"image_size": options.size} if name == "unetr" else {}
        network = create_model(name, spatial_dims=options.dims, **CHANNELS, **fixed, **arguments)
    return network.train(options.train)


def share_weights(ours: nn.Module, peer: nn.Module) -> None:
    """Give ours the weights of the peer, which holds every one of ours, and some that it never uses or names twice."""
    target = getattr(ours, "body", ours)
    source = getattr(peer, "network", peer).state_dict()
    starts = RESENC_NAMES if hasattr(peer, "decoder") and hasattr(ours, "upsampling") else {}
    renamed = {}
    for name in target.state_dict():
        start = next((start for start in starts if name.startswith(start)), "")
        renamed[name] = source[starts.get(start, "") + name[len(start) :]]
    target.load_state_dict(renamed)


def make_step(name: str, side: str, options: argparse.Namespace, network: nn.Module | None = None) -> Callable[[], Any]:
    torch.set_num_threads(options.threads)
    network = make_network(name, side, options) if network is None else network
    image = torch.randn(1, 1, *[options.size] * options.dims, generator=torch.Generator().manual_seed(1))
    return make_network_step(network, image, train=options.train)


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cpu")
    networks = {side: make_network(name, side, options) for side in ("ours", "peer")}
    share_weights(networks["ours"], networks["peer"])
    steps = {side: make_step(name, side, options, network) for side, network in networks.items()}
    error = relative_error(steps["ours"](), steps["peer"]())
    if error > 1e-4:
        raise SystemExit(f"the logits of {name} differ by {error:.2g}: nothing is timed")
    seconds = time_in_turn(steps, options.rounds, device)
    del networks, steps
    memory = {side: peak_megabytes(make_step, name, side, options, device=device) for side in seconds}
    return {
        "relative_error": error,
        "seconds": {side: spread(values) for side, values in seconds.items()},
        "peak_megabytes": memory,
        "ratios": ratios(seconds, "ours"),
        "memory_ratio": memory["ours"] / memory["peer"],
    }


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    record = asked(options, "networks")
    record["machine"] = machine(torch.device("cpu"))
    record["networks"] = {name: compare(name, options) for name in options.networks}
    report(record, options.json)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--dims", type=int, default=3, choices=[2, 3])
    parser.add_argument("--size", type=int, default=64, help="of the image on every axis")
    parser.add_argument("--networks", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    return parser.parse_args()


if __name__ == "__main__":
    main()
