"""Networks of other packages, small, with the number of upsamplings in each; and one that interpolates by itself."""

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets
from torch import nn

_SHALLOW = {"depths": (1, 1, 1, 1), "window_size": 4}
_FOLDER = Path(sys.prefix) / "peers"
_LIBRARIES: list[torch.library.Library] = []


@dataclass(frozen=True)
class Peer:
    make: Callable[[], nn.Module]
    size: tuple[int, ...]
    upsamplings: int
    channels: int = 1

    def image(self, batch: int = 2) -> torch.Tensor:
        return torch.rand(batch, self.channels, *self.size, generator=torch.Generator().manual_seed(1))


def _smp_unet(**options: Any) -> nn.Module:
    look_for_peers()
    smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")
    widths = {"decoder_channels": (16, 16, 16), "encoder_depth": 3}
    return smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2, **widths, **options)


def look_for_peers(*others: str) -> None:
    """Import what ``make test`` installs from ``tests/peers.txt``, torchvision first; no other process finds it there.

    ``others`` are further packages of that folder.
    That also works where its compiled part is of another PyTorch: what is missing then, is not used here. (If nobody
    imported it so, the next package that looks for it would fail.)
    """
    sys.path.append(str(_FOLDER))
    try:
        _import_torchvision()
        for name in ("dynamic_network_architectures", "segmentation_models_pytorch", *others):
            with suppress(ModuleNotFoundError):
                importlib.import_module(name)
    finally:
        # Processes that a test starts are given this path, and would meet the torchvision that does not fit.
        sys.path.remove(str(_FOLDER))


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed", allow_module_level=True)


def _plain_conv_unet(**options: Any) -> nn.Module:
    look_for_peers()
    unet = pytest.importorskip(
        "dynamic_network_architectures.architectures.unet", reason="dynamic-network-architectures is not installed"
    )
    return unet.PlainConvUNet(1, 3, (4, 8, 8), nn.Conv2d, 3, (1, 2, (2, 1)), 1, 2, 1, norm_op=nn.BatchNorm2d, **options)


def _dynunet(**options: Any) -> nn.Module:
    strides = [1, 2, (2, 2, 1)]
    return nets.DynUNet(3, 1, 2, [3, 3, 3], strides, strides[1:], filters=[4, 8, 8], **options)


def _basic_unet(upsample: str) -> nn.Module:
    return nets.BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 16, 4), upsample=upsample)


PEERS = {
    "UNet": Peer(lambda: nets.UNet(3, 1, 2, (4, 8, 16), (2, 2)), (16, 8, 8), 2),
    "BasicUNet": Peer(lambda: _basic_unet("deconv"), (32, 32), 4),
    "BasicUNet, nontrainable": Peer(lambda: _basic_unet("nontrainable"), (32, 32), 4),
    "BasicUNet, pixelshuffle": Peer(lambda: _basic_unet("pixelshuffle"), (32, 32), 4),
    "DynUNet": Peer(_dynunet, (16, 8, 8), 2),
    "DynUNet, supervised": Peer(lambda: _dynunet(deep_supervision=True), (16, 8, 8), 2),
    "UNETR": Peer(
        lambda: nets.UNETR(1, 2, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=24, num_heads=2),
        (32, 32, 32),
        10,
    ),
    "SwinUNETR": Peer(
        lambda: nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=2), (64, 64), 5
    ),
    "SwinUNETR, v2": Peer(
        lambda: nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=3, use_v2=True, **_SHALLOW),
        (32, 32, 64),
        5,
    ),
    "SegResNet, nontrainable": Peer(
        lambda: nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)), (8, 8, 16), 2
    ),
    "SegResNet, deconv": Peer(
        lambda: nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1), upsample_mode="deconv"),
        (8, 8, 16),
        2,
    ),
    "smp Unet": Peer(_smp_unet, (32, 64), 3, channels=3),
    "smp Unet, attention": Peer(lambda: _smp_unet(decoder_attention_type="scse"), (32, 64), 3, channels=3),
    "PlainConvUNet": Peer(_plain_conv_unet, (16, 8), 2),
    "PlainConvUNet, supervised": Peer(lambda: _plain_conv_unet(deep_supervision=True), (16, 8), 2),
}


class Interpolating(nn.Module):
    """Interpolates in its own forward, as ``resize`` does."""

    def __init__(self, resize=lambda x, skip: F.interpolate(x, size=skip.shape[2:], mode="bilinear")):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.resize = resize

    def forward(self, image):
        skip = self.stem(image)
        return self.resize(F.max_pool2d(skip, 2), skip) + skip
