"""Normalisation layers by name."""

import copy

import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.nn.norm import create_norm


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batch_normalisation_of_a_single_value_is_refused_in_training_alone(dims):
    norm = create_norm("batch", 4, dims)
    single, several = torch.ones(1, 4, *[1] * dims), torch.tensor([-1.0, 1.0]).repeat(4, 1).T.reshape(2, 4, *[1] * dims)
    for layer in (norm, copy.deepcopy(norm)):
        with pytest.raises(InputError, match=r"single value per channel here, of shape \(1, 4, .*larger batch_size"):
            layer(single)
        torch.testing.assert_close(layer(several).mean(0), torch.zeros(4, *[1] * dims))
        assert layer.eval()(single).shape == single.shape


@pytest.mark.parametrize("name, arguments", [("unet", {"widths": [4, 8, 8]}), ("nnmamba", {})])
def test_a_network_whose_bottom_is_a_single_value_says_so(name, arguments):
    model = create_model(name, in_channels=1, out_channels=2, spatial_dims=2, **arguments)
    with pytest.raises(InputError, match="batch normalisation in training has a single value per channel"):
        model(torch.rand(1, 1, *model.size_multiple))
    assert model(torch.rand(2, 1, *model.size_multiple)).isfinite().all()
    assert model.eval()(torch.rand(1, 1, *model.size_multiple)).isfinite().all()


@pytest.mark.parametrize("norm", ["instance", "instance_affine"])
def test_single_positions_with_the_channels_innermost_are_mapped(norm):
    layer, x = create_norm(norm, 4, 2), torch.rand(3, 2, 1, 1, 4).movedim(-1, 2).requires_grad_()
    with torch.no_grad():
        found = torch.func.vmap(layer)(x)
    assert torch.equal(found, torch.zeros_like(x))
    (gradients,) = torch.autograd.grad(layer(x[0]).flatten(), x, torch.eye(8), is_grads_batched=True)
    assert gradients.isfinite().all()
