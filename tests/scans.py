"""Problems of the selective scan that its tests share."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs
from tolerance import with_gradients


def random_inputs(
    batch: int, channels: int, steps: int, states: int, groups: int = 1, bare: bool = False, seed: int = 0
) -> Inputs:
    """Inputs as Mamba has them: negative decay rates, some tens of steps long memories; ``bare`` without options."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    whole, projection = (batch, channels, steps), (batch, groups, states, steps)
    u, delta, b, c, gate = (random(*shape) for shape in (whole, whole, projection, projection, whole))
    a, skip, bias = -torch.exp(random(channels, states)), random(channels), random(channels)
    if bare:
        return Inputs(u, delta.abs(), b, c, None, a, None, None)
    return Inputs(u, delta - 1, b, c, gate, a, skip, bias)


def spread(inputs: Inputs) -> list[Tensor]:
    """The tensors that are given."""
    return list(inputs.given().values())


def with_all_gradients(function, inputs: Inputs, softplus: bool, grad: Tensor) -> list[Tensor]:
    """A scan's result and the gradients of its inputs, in the type of ``grad``."""

    def scan(*tensors: Tensor) -> Tensor:
        return function(inputs.convert(lambda *_: tensors), softplus)

    return with_gradients(scan, [tensor.to(grad.dtype) for tensor in spread(inputs)], grad)


@st.composite
def problems(draw, longest: int, numbers: int = 200):
    """Inputs, whether softplus is applied, and the gradient of the result.

    At least that many numbers in every result, but a quarter for one of each channel: among a few numbers, that plain
    PyTorch rounds them well is luck.
    """
    steps = draw(st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 255, 256, 257, 300, longest])))
    states, groups = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    each = draw(st.integers(1, 19)) + numbers // (4 * groups)
    projections = -(-numbers // (groups * states * steps))
    batch = max(draw(st.integers(1, 2)), projections, -(-numbers // (groups * each * steps)))
    bare, softplus, seed = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2**31))
    inputs = random_inputs(batch, groups * each, steps, states, groups, bare, seed)
    if not softplus:  # then time steps must be positive by themselves, or the states grow without bounds
        inputs = inputs._replace(delta=inputs.delta.abs(), delta_bias=None if bare else inputs.delta_bias.abs())
    return inputs, softplus, torch.randn(inputs.u.shape, generator=torch.Generator().manual_seed(seed + 1))
