"""Layers made without values: ``reset_parameters`` of all modules draws what their constructors draw."""

from functools import partial

import pytest
import torch

from deconvseg.nn import NDC, DeconverBlock, DeconvMixer, Mamba, SiameseMamba, create_upsampling
from deconvseg.nn.factorizer import ChannelNorm, FactorizerBlock, NMFMixer, PositionEmbedding
from deconvseg.nn.mamba import SCAN_DIRECTIONS
from deconvseg.nn.norm import AffineInstanceNorm, create_norm
from deconvseg.nn.residual import ConvUnit, ResidualBlock
from nn.kinds import UPSAMPLINGS

LAYERS = {
    "ndc": lambda: NDC(4, 3),
    "mixer": lambda: DeconvMixer(4, 3),
    "block": lambda: DeconverBlock(4, 3, norm="instance_affine"),
    "mamba": lambda: Mamba(6, SCAN_DIRECTIONS, 2),
    "siamese": lambda: SiameseMamba(6),
    "nmf": lambda: NMFMixer(8),
    "factorizer": lambda: FactorizerBlock(8, rank=2),
    "position": lambda: PositionEmbedding(4, (3, 5)),
    "channel_norm": lambda: ChannelNorm(4),
    "unit": lambda: ConvUnit(2, 4, 3, 2, norm="instance_affine"),
    "residual": lambda: ResidualBlock(2, 4, 2, norm="batch"),
    **{kind: partial(create_upsampling, kind, 8, 4, spatial_dims=2, skip_channels=4) for kind in UPSAMPLINGS},
    "dtc_bilinear": lambda: create_upsampling({"kind": "dtc", "init": "bilinear"}, 8, 4),
    "dtc_zero": lambda: create_upsampling({"kind": "dtc+transposed", "init": "zero"}, 8, 4),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_reset_parameters_of_all_modules_make_a_fresh_layer(kind):
    torch.manual_seed(0)
    fresh = LAYERS[kind]()
    with torch.device("meta"):
        layer = LAYERS[kind]()
    layer.to_empty(device="cpu")
    for tensor in (*layer.parameters(), *layer.buffers()):
        tensor.detach().fill_(float("nan") if tensor.is_floating_point() else 99)
    torch.manual_seed(0)
    layer.apply(lambda module: getattr(module, "reset_parameters", lambda: None)())
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    for name, expected in (*fresh.named_parameters(), *fresh.named_buffers()):
        assert torch.equal(tensors[name], expected), name


@pytest.mark.parametrize("norm", ["instance", "instance_affine"])
def test_a_normalisation_without_parameters_has_nothing_to_reset(norm):
    layer = create_norm(norm, 4, 2)
    layer.reset_parameters()
    assert len(list(layer.parameters())) == (2 if isinstance(layer, AffineInstanceNorm) else 0)
