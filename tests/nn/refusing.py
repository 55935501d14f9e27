"""What the tests of refused upgrades have in common."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import upgrade_upsampling


def contents(model):
    """Everything that a model holds: the modules with their classes and attributes, and the values of tensors."""
    held = {}
    for path, module in model.named_modules(remove_duplicate=False):
        held[path] = (id(module), type(module))
        for name, value in vars(module).items():
            # By their text, which tells what is in them too.
            held[path, name] = repr(value)
    return held, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    """Check that the model holds what it held before."""
    held, values = contents(model)
    assert held == before[0]
    torch.testing.assert_close(values, before[1], rtol=0, atol=0, equal_nan=True)


def refused(model, *messages, **options):
    """Check that the upgrade fails with these messages in one line and leaves the model alone."""
    before = contents(model)
    with pytest.raises(InputError) as caught:
        upgrade_upsampling(model, **options)
    for message in messages:
        assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    unchanged(model, before)


class Calling(nn.Module):
    """Stem, and another module that is called as ``call`` says."""

    def __init__(self, call, **modules):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.call = call
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.call(self, self.stem(x))


class Block(nn.Module):
    """A decoder block as they often are, with an optional skip connection."""

    def forward(self, x, skip=None):
        x = F.interpolate(x, scale_factor=2)
        return x if skip is None else x + skip
