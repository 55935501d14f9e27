"""What cannot be upgraded is refused with its place and the reason, and the model stays as it was."""

import logging
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import upgrade_upsampling
from nn.peers import PEERS, Interpolating


def refused(model, *messages, **options):
    """Check that the upgrade fails with these messages in one line and leaves the model alone."""
    keys, types = list(model.state_dict()), [type(module) for module in model.modules()]
    modes = [module.training for module in model.modules()]
    with pytest.raises(InputError) as caught:
        upgrade_upsampling(model, **options)
    for message in messages:
        assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == types
    assert [module.training for module in model.modules()] == modes


class Sharing(nn.Module):
    """One upsampling layer for two tensors."""

    def __init__(self, second=2):
        super().__init__()
        self.stem, self.other = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, second, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        return torch.cat([self.up(self.stem(x)), self.up(self.other(x))], dim=1)


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


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "dtcc"}, "kind 'dtcc' is unknown: did you mean 'dtc'"),
            ({"kind": "dtc+linear"}, r"kind 'dtc\+linear' is unknown: did you mean"),
            ({"kind": "fade"}, "'fade' needs the skip connection"),
            ({"mode": "besides"}, "mode 'besides' is unknown: did you mean 'beside'"),
            ({"init": "zeros"}, "init 'zeros' is unknown: did you mean 'zero'"),
            ({"kind": "dysample", "init": "zero"}, "init='zero' is one of DTC's"),
            ({"receptive_field": 0}, "receptive_field=0: give a positive number"),
            ({"leave": ["upsmples*"]}, r"leave: 'upsmples\*' is the path of no upsampling; there are: upsamples.0"),
            ({"leave": "*"}, "leave: all 2 upsamplings of the model are left as they are"),
            (
                {"example": torch.rand(1, 2, 8, 8, 8)},
                r"could not be run \(on \(1, 2, 8, 8, 8\) it said: .*give example",
            ),
        ],
    )
    def test_are_refused(self, options, message):
        refused(PEERS["DynUNet"].make(), message, **options)


class TestModels:
    def test_without_any_upsampling(self):
        refused(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)), "the model has no upsampling: no transposed convolution")
        refused(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3)), "the model has no upsampling")
        refused(Interpolating(lambda x, skip: F.interpolate(skip, scale_factor=0.5)[:, :, :1, :1]), "has no upsampling")

    def test_that_are_an_upsampling_themselves(self):
        refused(nn.ConvTranspose2d(1, 1, 2, 2), r"the model itself \(ConvTranspose2d\): .* by create_upsampling")

    def test_that_cannot_be_run_without_an_example(self):
        model = nn.Sequential(nn.Linear(5, 5), nn.Upsample(scale_factor=2))
        refused(model, "no run of the model shows its channels", "no convolution that says .*: give example=")
        refused(nn.Sequential(nn.Linear(5, 5)), "interpolate could not be looked for, because .*: give example=")
        (change,) = upgrade_upsampling(model, example=torch.rand(1, 3, 5, 5))
        assert change.in_channels == 3

    def test_that_cannot_be_run_are_changed_where_layers_carry_their_sizes(self, caplog):
        class TwoImages(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 2, 2)

            def forward(self, first, second):
                return self.up(self.stem(first) + self.stem(second))

        with caplog.at_level(logging.WARNING, "deconvseg"):
            assert len(upgrade_upsampling(TwoImages())) == 1
        assert "interpolate were not looked for, because the model could not be run" in caplog.text


class TestPlaces:
    def test_all_are_listed_with_how_to_leave_them(self):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ConvTranspose2d(4, 4, 3, 2),
            nn.Upsample(scale_factor=2.5),
            nn.PixelShuffle(2),
        )
        refused(
            model,
            r"1 \(ConvTranspose2d\): its output is not \(2, 2\) times the input \(kernel \(3, 3\).*but \+1 pixels",
            r"2 \(Upsample\): it goes from \(65, 65\) to \(162, 162\) pixels, which is no whole factor",
            r"Leave it by leave=\('1', '2'\)",
        )
        (change,) = upgrade_upsampling(model, leave=("1", "2"))
        assert (change.found, change.in_channels, change.out_channels, change.scale) == ("PixelShuffle", 4, 1, (2, 2))

    def test_one_layer_for_several_numbers_of_channels(self):
        assert [(change.path, change.in_channels) for change in upgrade_upsampling(Sharing())] == [("up", 2)]
        refused(Sharing(4), r"up \(Upsample\): it is used with different channels \(2 to 2 and 4 to 4\)")

    def test_layers_that_are_not_called_with_one_tensor(self):
        model = Calling(lambda self, x: self.up(x, output_size=[64, 64]), up=nn.ConvTranspose2d(4, 1, 3, 2, padding=1))
        refused(model, r"up \(ConvTranspose2d\): it is not called with one tensor alone")

    def test_layers_that_are_not_used(self):
        refused(Calling(lambda self, x: x, up=nn.Upsample(scale_factor=2)), "no run of the model shows its channels")

    def test_channels_that_the_kind_does_not_take(self):
        model = PEERS["UNet"].make()
        refused(model, r"model.2.conv \(ConvTranspose3d\): DySample: 2 output channels do not divide", kind="dysample")
        refused(nn.Sequential(nn.Conv1d(1, 2, 1), nn.ConvTranspose1d(2, 2, 2, 2)), "spatial_dims=1: choose from 2, 3")

    def test_factors_that_depend_on_the_size_of_the_image(self):
        def pool(x, skip):
            return F.interpolate(x.mean((2, 3), keepdim=True), size=skip.shape[2:])

        refused(Interpolating(pool), r"the model itself \(F.interpolate\): its factor is not always the same")


class TestForwards:
    def test_called_in_two_ways(self):
        model = Calling(lambda self, x: self.block(self.block(x), torch.ones(())), block=Block())
        refused(model, r"block \(F.interpolate\): its forward is called with different skip, a branch for each")
        assert len(upgrade_upsampling(Calling(lambda self, x: self.block(self.block(x)), block=Block()))) == 1

    def test_that_depend_on_the_data(self):
        def resize(x, skip):
            return F.interpolate(x, scale_factor=2) if x.mean() < 100 else skip

        refused(Interpolating(resize), "torch.fx cannot trace its forward .*control flow", r"leave=\('',\)")

    def test_that_do_something_else_in_training(self):
        class Dropping(Interpolating):
            def forward(self, image):
                return F.dropout(super().forward(image), training=self.training)

        refused(Dropping(), "its forward does something else in training than in evaluation")

    def test_that_make_constants(self):
        def resize(x, skip):
            return F.interpolate(x * torch.tensor([2.0]), scale_factor=2)

        model = Interpolating(resize)
        refused(model, "cannot trace its forward, which makes constant tensors")
        assert not [name for name in vars(model) if "constant" in name]

    def test_whose_graph_makes_something_else(self):
        def resize(x, skip):
            # torch.fx does not see the autocast region.
            with torch.autocast("cpu", torch.bfloat16):
                return F.interpolate(torch.matmul(x, x).float(), scale_factor=2)

        refused(Interpolating(resize), "its forward as torch.fx traces it makes something else")
