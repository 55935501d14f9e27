"""What cannot be upgraded is refused with its place and the reason, and the model stays as it was."""

import logging
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import upgrade_upsampling
from nn.kinds import ZERO
from nn.peers import PEERS, Interpolating
from nn.refusing import Calling, refused


class Sharing(nn.Module):
    """One upsampling layer for two tensors."""

    def __init__(self, second=2):
        super().__init__()
        self.stem, self.other = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, second, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        return torch.cat([self.up(self.stem(x)), self.up(self.other(x))], dim=1)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"upsampling": "dtcc"}, "upsampling 'dtcc' is unknown: did you mean 'dtc'"),
            ({"upsampling": "dtc+linar"}, r"upsampling 'dtc\+linar' is unknown: did you mean 'dtc\+linear'"),
            ({"upsampling": "fade"}, r"'fade' needs the skip connection.* create_upsampling .* upsampling='fade'"),
            ({"upsampling": "dtc+fade"}, r"'dtc\+fade' needs the skip connection"),
            ({"mode": "replace", "upsampling": ZERO}, "makes every output zero: give mode='beside', or another init"),
            ({"mode": "besides"}, "mode 'besides' is unknown: did you mean 'beside'"),
            ({"upsampling": {"kind": "dtc", "init": "zeros"}}, "init 'zeros' is unknown: did you mean 'zero'"),
            ({"upsampling": {"kind": "dysample", "init": "zero"}}, "option 'init' is unknown: choose from groups"),
            ({"upsampling": {"kind": "dtc", "receptive_field": 0}}, "receptive_field=0: give a positive number"),
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
        refused(model, "no run of the model shows its channels", "no convolution that shows .*: give example=")
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
        assert (
            "interpolate were not looked for, nor the changed model run, because the model could not be run"
            in caplog.text
        )


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
            r"2 \(Upsample\): it goes from \(65, 65\) to \(162, 162\) pixels, which is not an integer factor",
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
        refused(
            model, r"model.2.conv \(ConvTranspose3d\): DySample: 2 output channels do not divide", upsampling="dysample"
        )
        refused(nn.Sequential(nn.Conv1d(1, 2, 1), nn.ConvTranspose1d(2, 2, 2, 2)), "spatial_dims=1: choose from 2, 3")

    def test_factors_that_depend_on_the_size_of_the_image(self):
        def pool(x, skip):
            return F.interpolate(x.mean((2, 3), keepdim=True), size=skip.shape[2:])

        refused(Interpolating(pool), r"the model itself \(F.interpolate\): its factor is not always the same")

    def test_layers_with_hooks_are_not_replaced(self):
        seen = []
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Upsample(scale_factor=2))
        hook = model[1].register_forward_hook(lambda *_: seen.append(1))
        refused(model, r"1 \(Upsample\): it has hooks, which would be lost with it: remove them", mode="replace")
        upgrade_upsampling(model)
        seen.clear()
        model(torch.rand(1, 1, 8, 8))
        assert seen == [1]
        hook.remove()


class TestAllOrNothing:
    """What only shows in a run of the changed model is found there, and undone."""

    @pytest.mark.parametrize(("kind", "mode"), [("dtc", "beside"), ("linear", "replace")])
    def test_layers_whose_attributes_are_read(self, kind, mode):
        def weight(self, x):
            return F.interpolate(self.up(x) * self.up.weight.mean(), scale_factor=2)

        def number(self, x):
            return self.up(x) / self.up.out_channels

        for call, attribute in ((weight, "weight"), (number, "out_channels")):
            model = Calling(call, up=nn.ConvTranspose2d(4, 4, 2, 2))
            message = rf"up \(ConvTranspose2d\): with the new layer the model fails .*no attribute '{attribute}'"
            refused(model, message, r"leave=\('up',\)", upsampling=kind, mode=mode)
        (change,) = upgrade_upsampling(Calling(weight, up=nn.ConvTranspose2d(4, 4, 2, 2)), leave="up")
        assert change.found == "F.interpolate"

    def test_layers_that_are_called_from_elsewhere(self):
        model = Calling(lambda self, x: self.ups[0](self.other(x)), up=nn.ConvTranspose2d(4, 4, 2, 2))
        model.ups, model.other = [model.up], nn.Upsample(scale_factor=2)
        message = r"changed: up \(ConvTranspose2d\): the model calls the new layer 0 times instead of 1"
        refused(model, message, r"Leave it by leave=\('up',\)")
        assert [change.path for change in upgrade_upsampling(model, leave="up")] == ["other"]

    def test_layers_that_training_alone_calls(self):
        model = Calling(lambda self, x: self.up(x) if self.training else x, up=nn.ConvTranspose2d(4, 4, 2, 2))
        refused(model, r"up \(ConvTranspose2d\): .* it is not called when the model evaluates")

    def test_outputs_that_depend_on_how_a_layer_is_made(self):
        def call(self, x):
            return self.up(x) * (2 if isinstance(self.up, nn.Upsample) else 1)

        refused(
            Calling(call, up=nn.Upsample(scale_factor=2)),
            r"up \(Upsample\): with the new layer, which adds zeros, the model's output changes",
            upsampling=ZERO,
        )


def test_compiled_models_are_to_be_compiled_afterwards():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Upsample(scale_factor=2))
    refused(torch.compile(model, backend="eager"), "the model is compiled: upgrade the model, then compile it")
    refused(nn.Sequential(torch.compile(model, backend="eager")), "0 is compiled: upgrade the model")
    model[1].compile(backend="eager")
    refused(model, "1 is compiled: upgrade the model")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated", "ignore:.*torch.jit.script.* is not supported")
def test_scripted_parts_stay():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), torch.jit.script(nn.ReLU()), nn.Upsample(scale_factor=2))
    x = torch.rand(1, 1, 8, 8)
    expected = model(x)
    upgrade_upsampling(model, ZERO)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_lazy_models_are_to_be_run_first():
    model = nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.Upsample(scale_factor=2))
    with pytest.raises(InputError, match="the model has lazy layers, .*: run it once on an image"):
        upgrade_upsampling(model)
    model(torch.rand(1, 1, 8, 8))
    assert len(upgrade_upsampling(model)) == 1


# A process of its own for each of two, left without tidying up: taking a gloo group apart can wait for itself.
DATA_PARALLEL = """
import copy, os, sys
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from deconvseg.errors import InputError
from deconvseg.nn import upgrade_upsampling

rank = int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
torch.manual_seed(rank)
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Upsample(scale_factor=2))
try:
    upgrade_upsampling(nn.ModuleDict({"net": DistributedDataParallel(copy.deepcopy(model))}))
except InputError as error:
    assert "net is wrapped in DistributedDataParallel" in str(error) and "then wrap it" in str(error), error
else:
    raise AssertionError("not refused")
upgrade_upsampling(model)
wrapped = DistributedDataParallel(model)
wrapped(torch.rand(1, 1, 8, 8)).square().sum().backward()
gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
both = [torch.empty_like(gradients) for _ in range(2)]
torch.distributed.all_gather(both, gradients)
assert len(gradients) > 40 and torch.equal(*both)
print("equal", flush=True)
os._exit(0)
"""


def test_models_are_wrapped_for_data_parallel_training_afterwards(tmp_path):
    command = [sys.executable, "-c", DATA_PARALLEL, str(tmp_path / "store")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, rank], **pipes) for rank in "01"]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out == "equal\n", err
