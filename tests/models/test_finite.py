"""Whole networks never give NaN in bfloat16 where they give none in float32: zeros, constants, large intensities."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deconvseg.inference.tuning import tune
from deconvseg.models import create_model
from deconvseg.ops import native

# PyTorch's own convolutions in bfloat16, which other processors compute by, give NaN for the largest numbers.
needs_bfloat16 = pytest.mark.skipif(native.why_no_bfloat16() is not None, reason=f"{native.why_no_bfloat16()}")

NETWORKS: Mapping[str, dict[str, Any]] = {
    "deconver": {},
    "deconver with dtc": {"upsampling": "dtc+transposed"},
    "unet with dtc": {"upsampling": "dtc"},
    "nnunet": {"widths": (16, 32, 32)},
}
CASES = [("deconver", 2), ("deconver", 3), ("deconver with dtc", 2), ("unet with dtc", 3), ("nnunet", 2), ("nnunet", 3)]


def make(name: str, dims: int) -> nn.Module:
    torch.manual_seed(0)
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": dims, "widths": (16, 32), **NETWORKS[name]}
    return create_model(name.partition(" ")[0], **config)


def images(dims: int) -> Iterator[tuple[str, Tensor]]:
    """Yield images by what they are; the largest number of bfloat16 is 3.39e38, that of float16 65504."""
    # The coarsest stage has 3 positions on an axis: with 2, PyTorch's own gradient of a 3D filter is not reliable
    # (docs/explanation/kernels.md).
    shape = (1, 2, *[12] * dims)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for constant in (0.0, 1e-8, -1e5, 65504.0, 3e38):
        yield f"constant {constant:g}", torch.full(shape, constant)
    for scale in (1e-30, 1e-8, 1e5, 65504.0, 1e36):
        yield f"noise times {scale:g}", noise * scale
    spike = torch.zeros(shape)
    spike[(0, 0, *[4] * dims)] = 1e5
    yield "a spike in zeros", spike


def is_finite(*tensors: Tensor | None) -> bool:
    return all(tensor is None or bool(tensor.isfinite().all()) for tensor in tensors)


@needs_bfloat16
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_predictions_in_bfloat16_are_finite_where_those_in_float32_are(name: str, dims: int) -> None:
    network = tune(make(name, dims).eval(), torch.device("cpu"))
    half = make(name, dims).eval().bfloat16()
    with torch.no_grad():
        for what, image in images(dims):
            if not is_finite(network(image.clone())):
                assert "e+3" in what, f"in float32: {what}"
                continue
            with torch.autocast("cpu", torch.bfloat16):
                assert is_finite(network(image.clone())), f"under autocast: {what}"
            assert is_finite(half(image.bfloat16())), f"of .bfloat16(): {what}"


def step(network: nn.Module, image: Tensor, *, lowered: bool = False) -> bool:
    """Take a training step; return whether its loss and all gradients are finite."""
    network.zero_grad()
    image = image.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16) if lowered else nullcontext():
        logits = network(image).float()
        loss = nn.functional.cross_entropy(logits, torch.zeros(1, *image.shape[2:], dtype=torch.long))
    loss.backward()
    return is_finite(loss, image.grad, *[each.grad for each in network.parameters()])


@needs_bfloat16
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_gradients_in_bfloat16_are_finite_where_those_in_float32_are(name: str, dims: int) -> None:
    full, half = make(name, dims), make(name, dims).bfloat16()
    for what, image in images(dims):
        if not step(full, image):
            assert "e+3" in what, f"in float32: {what}"
            continue
        assert step(full, image, lowered=True), f"under autocast: {what}"
        assert step(half, image.bfloat16()), f"of .bfloat16(): {what}"
