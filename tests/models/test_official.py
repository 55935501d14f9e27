"""Weights of the authors' repository: by their documented names, by recorded outputs, and against a checkout."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from deconvseg.errors import InputError
from deconvseg.models import Deconver, load_official

NETWORKS = {
    "3d": {"spatial_dims": 3, "widths": (8, 16, 32), "depths": (1, 2, 1), "kernel_size": 3},
    "3d-k5-groups": {"spatial_dims": 3, "widths": (8, 16), "kernel_size": 5, "ratio": 2, "groups": 4},
    "2d-k5-heads": {"spatial_dims": 2, "widths": (8, 16, 16), "kernel_size": 5, "deep_supervision_heads": 2},
    "2d-one-group": {
        "spatial_dims": 2,
        "widths": (12, 24),
        "depths": (1, 3),
        "kernel_size": 3,
        "ratio": 1,
        "groups": 1,
    },
    "2d-deep-decoder": {"spatial_dims": 2, "widths": (4, 8, 8), "kernel_size": (3, 5), "decoder_depths": (2, 1)},
}


def official_shapes(config):
    """Names and shapes of the authors' state dict for a network of ours."""
    dims, widths, ratio = config["spatial_dims"], config["widths"], config.get("ratio", 4)
    groups, heads = config.get("groups"), config.get("deep_supervision_heads", 0)
    kernel = config["kernel_size"]
    kernel = (kernel,) * dims if isinstance(kernel, int) else kernel
    stages = len(widths)
    shapes = {"stem.weight": (widths[0], 2, *[3] * dims)}

    def block(prefix, c):
        shapes[f"{prefix}.dcm.in_proj.linear.weight"] = (c, c, 1)
        shapes[f"{prefix}.dcm.deconv.init.h0"] = (c, c * ratio // (groups or c), *kernel)
        for name, (rows, columns) in {
            "dcm.deconv.init.linear.linear": (ratio * c, c),
            "dcm.out_proj.linear": (c, ratio * c),
            "mlp.block.0.linear": (4 * c, c),
            "mlp.block.3.linear": (c, 4 * c),
        }.items():
            shapes[f"{prefix}.{name}.weight"] = (rows, columns, 1)
            shapes[f"{prefix}.{name}.bias"] = (rows,)

    for stage, width in enumerate(widths):
        if stage:
            shapes[f"encoder.blocks.{stage}.downsample.weight"] = (width, widths[stage - 1], *[2] * dims)
            shapes[f"encoder.blocks.{stage}.downsample.bias"] = (width,)
        for index in range(config.get("depths", (1,) * stages)[stage]):
            block(f"encoder.blocks.{stage}.block.blocks.{index}", width)
    for stage in range(stages - 1):
        below, width = widths[::-1][stage : stage + 2]
        shapes[f"decoder.blocks.{stage}.upsample.weight"] = (below, width, *[2] * dims)
        shapes[f"decoder.blocks.{stage}.upsample.bias"] = (width,)
        shapes[f"decoder.blocks.{stage}.block.adapter.linear.weight"] = (width, 2 * width, 1)
        for index in range(config.get("decoder_depths", (1,) * (stages - 1))[stage]):
            block(f"decoder.blocks.{stage}.block.blocks.{index}", width)
    for index in range(1 + heads):
        name = f"heads.{index}" if heads else "head"
        shapes[f"{name}.weight"] = (3, widths[index], *[1] * dims)
        shapes[f"{name}.bias"] = (3,)
    return shapes


def official_weights(config):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in official_shapes(config).items()}


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_every_official_tensor_finds_its_place(config):
    model, theirs = Deconver(2, 3, **config), official_weights(config)
    load_official(model, theirs)
    ours = list(model.state_dict().values())
    assert len(ours) == len(theirs)
    sums = [sorted(round(tensor.double().sum().item(), 4) for tensor in tensors) for tensors in (ours, theirs.values())]
    assert sums[0] == sums[1]


def test_names_that_do_not_fit_are_listed_and_nothing_is_loaded():
    config = NETWORKS["3d"]
    model, theirs = Deconver(2, 3, **config), official_weights(config)
    before = model.stem.weight.clone()
    h0 = "encoder.blocks.0.block.blocks.0.dcm.deconv.init.h0"
    theirs[h0] = torch.zeros(8, 4, 5, 5, 5)
    del theirs["head.bias"]
    theirs["encoder.blocks.0.norm.weight"] = torch.zeros(8)
    with pytest.raises(InputError) as caught:
        load_official(model, theirs)
    message = str(caught.value)
    assert "missing: head.bias" in message
    assert "unexpected: encoder.blocks.0.norm.weight" in message
    assert f"of another shape: {h0} (8, 4, 5, 5, 5) instead of (8, 4, 3, 3, 3)" in message
    torch.testing.assert_close(model.stem.weight, before, rtol=0, atol=0)


def test_weights_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"head.weight \(3, 8, 1, 1, 1\) instead of \(3, 6, 1, 1, 1\)"):
        load_official(Deconver(2, 3, 3, widths=(6, 16, 32), depths=(1, 2, 1)), official_weights(NETWORKS["3d"]))


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_outputs_are_those_that_the_authors_network_gave(dims):
    """A golden file holds a state dict of theirs, an input and its output; the metadata says what made them."""
    with safe_open(Path(__file__).parent / "golden" / f"official_{dims}.safetensors", "pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    x, expected = tensors.pop("input"), tensors.pop("output")
    model = Deconver(**settings, eps=1e-16).eval()
    load_official(model, {name.removeprefix("weights."): tensor for name, tensor in tensors.items()})
    with torch.no_grad():
        found = model(x)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture(scope="module")
def official():
    checkout = os.environ.get("DECONVSEG_OFFICIAL")
    if not checkout or not (Path(checkout) / "deconver").is_dir():
        pytest.skip("DECONVSEG_OFFICIAL does not name a checkout of the authors' repository")
    sys.path.insert(0, checkout)
    yield pytest.importorskip("deconver")
    sys.path.remove(checkout)


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_outputs_agree_with_the_authors_network(official, config):
    torch.manual_seed(0)
    dims, stages = config["spatial_dims"], len(config["widths"])
    kernel, heads = config["kernel_size"], config.get("deep_supervision_heads", 0)
    theirs = official.Deconver(
        2,
        3,
        spatial_dims=dims,
        encoder_width=config["widths"],
        encoder_depth=config.get("depths", (1,) * stages),
        decoder_depth=config.get("decoder_depths", (1,) * (stages - 1)),
        strides=(1,) + (2,) * (stages - 1),
        norm={2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}[dims],
        kernel_size=(kernel,) * dims if isinstance(kernel, int) else kernel,
        ratio=config.get("ratio", 4),
        groups=config.get("groups", -1),
        eps=1e-8,
        num_deep_supr=heads + 1 if heads else False,
    ).eval()
    ours = Deconver(2, 3, **config).eval()
    load_official(ours, theirs.state_dict())
    ours.deep_supervision = heads > 0
    x = torch.randn(2, 2, *(32, 16, 24)[:dims])
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    if not heads:
        expected, found = [expected], [found]
    for one, other in zip(expected, found, strict=True):
        assert (one - other).norm() <= 1e-5 * one.norm()
        assert (one - other).abs().max() <= 1e-5 * one.abs().max()
