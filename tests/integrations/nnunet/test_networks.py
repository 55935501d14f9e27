"""Networks as nnU-Net builds them: its constructor, its switch of deep supervision, one state dict, compilation."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.integrations.nnunet import PlannedNetwork, UpsampledUNet
from deconvseg.integrations.nnunet.drafting import BYTES_PER_VALUE, Draft, Drafting, Stages
from deconvseg.models import complexity, list_models
from nn.peers import look_for_peers
from nnunet_peer import layer_arguments

# An anisotropic plan: flat kernels and strides in the first stages.
STAGES = Stages(((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (1, 3, 3), (3, 3, 3)))
FLAT = Stages(((1, 1), (2, 2), (2, 1)), ((3, 3), (3, 3), (3, 3)))
_HEADS = "deep_supervision_heads"
QUICK = ("deconver", "nnunet", "segresnet", "unet")
# An ensemble is made of other networks and is not fitted.
ANY = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in list_models()
    if name not in ("ensemble", "nnunet_architecture", "slicewise")
]


def own(unet: str, stages: Stages) -> dict[str, Any]:
    """What nnU-Net's planner writes for its own networks."""
    dims, count = len(stages.strides[0]), len(stages.strides)
    arguments: dict[str, Any] = {
        "n_stages": count,
        "features_per_stage": [4, 8, 8][:count],
        "kernel_sizes": [list(size) for size in stages.kernels],
        "strides": [list(step) for step in stages.strides],
        "n_conv_per_stage_decoder": [1] * (count - 1),
        **layer_arguments(dims),
    }
    arguments["n_conv_per_stage" if unet == "PlainConvUNet" else "n_blocks_per_stage"] = [1] * count
    return {"arch_kwargs": arguments, "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}


def build(architecture: Mapping[str, Any], deep_supervision: bool) -> nn.Module:
    """Build a network as nnU-Net's ``get_network_from_plans`` does, by the name and arguments of the plans."""
    import pydoc

    given = dict(architecture["arch_kwargs"], deep_supervision=deep_supervision)
    for name in architecture["_kw_requires_import"]:
        given[name] = given[name] and pydoc.locate(given[name])
    kind: Any = pydoc.locate(architecture["network_class_name"])
    made: nn.Module = kind(input_channels=1, num_classes=3, **given)
    assert not hasattr(made, "initialize")
    return made


def switch(network: nn.Module, on: bool) -> nn.Module:
    decoder: Any = network.decoder
    decoder.deep_supervision = on
    return network


def check_contract(draft: Draft) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, *draft.patch)
    trained, used = build(draft.architecture, True), build(draft.architecture, False).eval()
    used.load_state_dict(trained.state_dict(), strict=True)
    strides = draft.architecture["arch_kwargs"]["strides"]
    with torch.no_grad():
        outputs = trained.eval()(image)
        alone = used(image)
    scale = torch.ones(len(draft.patch), dtype=torch.long)
    sizes = []
    for step in strides[:-1]:
        scale = scale * torch.tensor(step)
        sizes.append((1, 3, *(torch.tensor(draft.patch) // scale).tolist()))
    assert [tuple(logits.shape) for logits in outputs] == sizes
    assert torch.equal(outputs[0], alone)
    # nnU-Net switches it off for its validation, and on again when a training continues.
    with torch.no_grad():
        assert torch.equal(switch(trained, False)(image), alone)
        assert len(switch(trained, True)(image)) == len(sizes)


@pytest.mark.parametrize("model", ANY)
def test_a_registered_network_keeps_nnunets_contract(model: str) -> None:
    look_for_peers()
    draft = Drafting(model, None, 12 if model.startswith("swin") else 8).drafts(
        STAGES, (8, 32, 32), own("PlainConvUNet", STAGES)
    )[0]
    check_contract(draft)


@pytest.mark.parametrize("upsampling", ["dtc+transposed", {"kind": "dtc", "receptive_field": 4}, "linear"])
def test_any_upsampling_goes_into_a_planned_network(upsampling: Any) -> None:
    draft = Drafting("deconver", upsampling, 8).drafts(FLAT, (16, 16), own("PlainConvUNet", FLAT))[0]
    check_contract(draft)
    config = draft.architecture["arch_kwargs"]["config"]
    assert (config["upsampling"], config["deep_supervision_heads"]) == (upsampling, 1)


@pytest.mark.parametrize("unet", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("stages", [STAGES, FLAT], ids=["3d", "2d"])
def test_nnunets_own_networks_keep_its_contract(unet: str, stages: Stages) -> None:
    look_for_peers()
    patch = (8, 16, 16) if stages is STAGES else (16, 16)
    check_contract(Drafting(unet, None, None).drafts(stages, patch, own(unet, stages))[0])


def test_dtc_that_starts_at_zero_leaves_nnunets_own_network_as_it_is() -> None:
    look_for_peers()
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    given = own("PlainConvUNet", FLAT)["arch_kwargs"] | {"conv_op": nn.Conv2d, "norm_op": nn.InstanceNorm2d}
    given |= {"nonlin": nn.LeakyReLU}
    torch.manual_seed(0)
    theirs = PlainConvUNet(1, num_classes=3, deep_supervision=True, **given)
    theirs.apply(theirs.initialize)
    torch.manual_seed(0)
    zero = {"kind": "dtc+transposed", "init": "zero"}
    ours = UpsampledUNet(1, 3, True, unet="PlainConvUNet", upsampling=zero, **given)
    image = torch.rand(2, 1, 16, 16)
    for one, other in zip(theirs(image), ours(image), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["planned", "upsampled"])
def test_a_network_compiles_as_a_whole_with_both_settings(kind: str) -> None:
    look_for_peers()
    model, upsampling = ("deconver", "dtc+transposed") if kind == "planned" else ("PlainConvUNet", None)
    draft = Drafting(model, upsampling, 8 if kind == "planned" else None).drafts(
        FLAT, (16, 16), own("PlainConvUNet", FLAT)
    )[0]
    network = build(draft.architecture, True)
    plain = deepcopy(network)
    # Traced with tensors that have no values, forward and backward, without generating code.
    compiled: Any = torch.compile(network, backend="aot_eager", fullgraph=True)
    image = torch.rand(1, 1, 16, 16)
    for on in (True, False):
        # As nnU-Net's set_deep_supervision_enabled does.
        switch(compiled._orig_mod, on)
        switch(plain, on)
        losses = [_total(each(image)) for each in (compiled, plain)]
        for loss in losses:
            loss.backward()
        torch.testing.assert_close(*losses)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def _total(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    return torch.stack(
        [out.float().square().mean() for out in ([outputs] if isinstance(outputs, Tensor) else outputs)]
    ).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deconvolution_is_float32_under_autocast(dtype: torch.dtype) -> None:
    draft = Drafting("deconver", None, 8).drafts(FLAT, (16, 16), own("PlainConvUNet", FLAT))[0]
    network = build(draft.architecture, True)
    torch.manual_seed(0)
    image = torch.randn(2, 1, 16, 16)
    # A source of zeros: the constant of its denominator, 1e-8, is zero in float16.
    image[0] = 0
    with torch.autocast("cpu", dtype=dtype):
        loss = _total(network(image[1:]))
    (loss * 256).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        half = network(image)[0].float()
    with torch.no_grad():
        full = network(image)[0]
    assert torch.isfinite(half).all()
    assert (half - full)[1].abs().max() < 0.05 * full[1].abs().max()


def test_two_stages_are_refused_because_nnunet_would_train_nothing() -> None:
    with pytest.raises(InputError, match="gives the lowest of 1 resolutions no weight"):
        PlannedNetwork(1, 2, model="unet", config={"spatial_dims": 2}, strides=[[1, 1], [2, 2]])


def test_a_layer_that_nnunet_does_not_name_is_not_looked_up() -> None:
    architecture = own("PlainConvUNet", FLAT)
    architecture["arch_kwargs"]["conv_op"] = "os.system"
    draft = Drafting("PlainConvUNet", None, None).drafts(FLAT, (16, 16), architecture)[0]
    with pytest.raises(InputError, match=r"conv_op='os\.system': not a layer of torch\.nn"):
        draft.create(1, 2)


def test_memory_is_in_nnunets_measure_and_counts_the_sources_of_ndc() -> None:
    look_for_peers()
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    for dims, patch, features, conv, norm in (
        (3, (128,) * 3, (32, 64, 128, 256, 320, 320), nn.Conv3d, nn.InstanceNorm3d),
        (2, (512,) * 2, (32, 64, 128, 256, 512, 512, 512, 512), nn.Conv2d, nn.InstanceNorm2d),
    ):
        with torch.device("meta"):
            theirs = PlainConvUNet(
                *(1, len(features), features, conv, 3, [1] + [2] * (len(features) - 1), 2, 3, 2, True, norm),
                **{"norm_op_kwargs": {"affine": True}, "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}},
                deep_supervision=True,
            )
        taken = complexity(theirs, (1, 1, *patch)).training_bytes
        switch(theirs, False)
        assert taken is not None
        assert taken / theirs.compute_conv_feature_map_size(patch) == pytest.approx(BYTES_PER_VALUE[dims], rel=0.01)
    memory = {}
    for ratio in (1, 4):
        strides = [[1, 1], [2, 2], [2, 2]]
        config = {
            "spatial_dims": 2,
            "widths": [8, 8, 8],
            "strides": strides,
            "deep_supervision_heads": 1,
            "ratio": ratio,
        }
        arguments = {"model": "deconver", "config": config, "strides": strides}
        memory[ratio] = Draft("", {"arch_kwargs": arguments, "_kw_requires_import": []}, (64, 64)).values(1, 2)
    # Three further source channels of each of eight channels, in six blocks, and their gradient.
    assert memory[4] - memory[1] > 3 * 8 * 64**2
