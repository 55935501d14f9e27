"""Forwards that are traced: what is taken, what is refused, and that they do then what they did before."""

import copy
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from deconvseg.nn import upgrade_upsampling
from nn.kinds import ZERO
from nn.peers import Interpolating
from nn.refusing import Block, Calling, refused

REGION = r"the model itself \(F.interpolate\): its forward has a part with settings of its own"


def resize(x):
    return F.interpolate(x, scale_factor=2)


def calling(call, **modules):
    """A model that is called as ``call`` says and has another convolution."""
    return Calling(call, down=nn.Conv2d(4, 4, 3, padding=1), **modules)


def equal_after_upgrade(model, x=None, **options):
    """Check that the model makes the same as before its upgrade."""
    x = torch.rand(1, 1, 16, 16) if x is None else x
    expected = copy.deepcopy(model)(x)
    upgrade_upsampling(model, ZERO, **options)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    return model


class Pyramid(nn.Module):
    """Resizes the coarse map to the size of the fine one, whatever that is, as a feature pyramid does."""

    def __init__(self, dims=2, by_keyword=True):
        super().__init__()
        conv, self.by_keyword = {2: nn.Conv2d, 3: nn.Conv3d}[dims], by_keyword
        self.fine, self.coarse = conv(1, 8, 3, 2, 1), conv(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = F.relu(self.fine(x))
        coarse, size = self.coarse(fine), fine.shape[2:]
        return fine + (F.interpolate(coarse, size=size) if self.by_keyword else F.interpolate(coarse, size))


@pytest.mark.parametrize("by_keyword", [False, True])
@pytest.mark.parametrize("kind", ["dtc", "pixelshuffle"])
@pytest.mark.parametrize("mode", ["beside", "replace"])
def test_a_size_that_is_asked_for_is_made_whatever_it_is(mode, kind, by_keyword):
    torch.manual_seed(0)
    model = Pyramid(by_keyword=by_keyword)
    upgrade_upsampling(model, kind, mode=mode)
    layer = model.upsampling
    for size in ((16, 32), (50, 50), (33, 47), (2, 98)):
        x = torch.rand(1, 1, *size)
        fine = F.relu(model.fine(x))
        coarse = model.coarse(fine)
        made = F.interpolate(layer(coarse), fine.shape[2:], mode="bilinear", align_corners=False)
        expected = fine + made + (F.interpolate(coarse, fine.shape[2:]) if mode == "beside" else 0)
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_zeros_beside_leave_odd_sizes_as_they_were(dims):
    model = Pyramid(dims)
    before = copy.deepcopy(model)
    upgrade_upsampling(model, ZERO)
    x = torch.rand(1, 1, *(33, 18, 21)[:dims])
    torch.testing.assert_close(model(x), before(x), rtol=0, atol=0)


def test_an_upsample_of_one_size_is_refused():
    def model():
        return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.Upsample(size=(32, 32)), nn.Conv2d(4, 4, 1))

    refused(model(), r"it makes images of one size, \(32, 32\), and the new layer would not", mode="replace")
    refused(model(), r"its factor is not always the same \(\(2, 1\) and \(2, 2\)\)", mode="beside")


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


class TestRegions:
    """A graph keeps no regions, so forwards that have any are refused."""

    @pytest.mark.parametrize(
        "region",
        [
            torch.no_grad,
            torch.enable_grad,
            torch.inference_mode,
            lambda: torch.autocast("cpu", torch.bfloat16),
            lambda: torch.autocast("cpu", enabled=False),
            lambda: torch.autocast("cuda", enabled=False),
        ],
        ids=["no_grad", "enable_grad", "inference_mode", "autocast", "no autocast", "no autocast on a GPU"],
    )
    @pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
    def test_around_a_child_or_a_function_or_everything(self, region):
        def child(self, x):
            with region():
                x = self.down(x)
            return resize(x)

        def function(self, x):
            with region():
                x = F.relu(x)
            return resize(x)

        for call in (child, function, region()(lambda self, x: resize(self.down(x)))):
            refused(calling(call), REGION)

    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
    @pytest.mark.parametrize("reentrant", [True, False])
    def test_of_checkpoints(self, reentrant):
        refused(calling(lambda self, x: resize(checkpoint(self.down, x, use_reentrant=reentrant))), REGION)

    def test_that_are_there_in_training_only(self):
        def call(self, x):
            with torch.set_grad_enabled(not self.training):
                x = self.down(x)
            return resize(x)

        refused(calling(call), REGION)

    def test_of_children_stay(self):
        class Frozen(nn.Conv2d):
            @torch.no_grad()
            def forward(self, x):
                return super().forward(x)

        model = equal_after_upgrade(calling(lambda self, x: resize(self.frozen(x)), frozen=Frozen(4, 4, 1)))
        model(torch.rand(1, 1, 16, 16)).sum().backward()
        assert model.frozen.weight.grad is None
        assert model.upsampling.project.weight.grad is not None


class TestAttributes:
    @pytest.mark.parametrize("attribute", ["last", "features", "calls", "total"])
    def test_that_the_forward_writes_are_refused(self, attribute):
        def call(self, x):
            x = self.down(x)
            if attribute == "last":
                self.last = x
            elif attribute == "features":
                self.features.append(x)
            elif attribute == "calls":
                self.calls += 1
            else:
                self.total += 1
            return resize(x)

        model = calling(call)
        model.last, model.features, model.calls = None, [], 0
        model.register_buffer("total", torch.zeros(()))
        refused(model, rf"its forward writes {attribute}, which a graph of torch.fx would not do again")

    def test_that_children_write_are_as_before_and_written_again_by_the_changed_model(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.zeros(()))
                self.seen = []

            def forward(self, x):
                self.mean.mul_(0.9).add_(x.mean())
                self.seen.append(x.shape)
                return x

        model = calling(lambda self, x: resize(self.counting(x)), counting=Counting())
        upgrade_upsampling(model)
        assert model.counting.mean == 0
        assert model.counting.seen == []
        model(torch.rand(1, 1, 8, 8))
        assert model.counting.mean != 0
        assert len(model.counting.seen) == 1
        refused(
            calling(lambda self, x: self.up(self.counting(x)), counting=Counting(), up=nn.Upsample(scale_factor=1.5))
        )


class TestErrors:
    def test_of_layers_that_are_made_there(self):
        for call in (lambda self, x: resize(nn.ReLU()(x)), lambda self, x: nn.Upsample(scale_factor=2)(x)):
            refused(calling(call), "torch.fx cannot trace its forward .*not installed as a submodule")


class TestArguments:
    def test_whose_names_end_in_numbers(self):
        class Masked(nn.Module):
            def forward(self, x, mask=None, mask_1=None, mask_2=None, *, factor=1):
                return resize(x) if mask is not None else factor * resize(x * mask_2 + mask_1)

        def call(self, x):
            return self.masked(x, mask_2=x, mask_1=2 * x, factor=x.mean())

        model = equal_after_upgrade(calling(call, masked=Masked()))
        with pytest.raises(AssertionError, match="mask has been specialized to have value None"):
            model.masked(*torch.rand(4, 1, 4, 8, 8))
        with pytest.raises(AssertionError, match="mask_2 is None, but was given"):
            model.masked(torch.rand(1, 4, 8, 8), mask_1=torch.rand(1, 4, 8, 8))


@dataclass
class Output:
    logits: torch.Tensor
    features: list[torch.Tensor]


class TestOutputs:
    def test_of_several_kinds_are_compared(self):
        pair = namedtuple("pair", ["logits", "name"])
        for make in (
            lambda x: Output(x, [x + 1]),
            lambda x: {"logits": x, "others": (x, None, "name")},
            lambda x: pair(x, "name"),
            lambda x: x * torch.nan,
            lambda x: (x > 0.5, x / 0),
        ):
            model = Calling(lambda self, x, make=make: make(resize(x)))
            x = torch.rand(1, 1, 8, 8)
            with torch.no_grad():
                expected = model(x)
            upgrade_upsampling(model, ZERO)
            with torch.no_grad():
                assert repr(model(x)) == repr(expected)

    def test_that_are_random_are_compared_with_the_same_random_numbers(self):
        upgrade_upsampling(Calling(lambda self, x: F.dropout(resize(x + torch.rand_like(x)))), ZERO)

    def test_without_values(self):
        model = Interpolating().to("meta")
        (change,) = upgrade_upsampling(model)
        assert change.found == "F.interpolate"
        assert model(torch.rand(1, 1, 8, 8, device="meta")).shape == (1, 4, 8, 8)

    def test_that_differ_are_refused(self):
        class Own(nn.Module):
            """Its forward is another one than that of its class."""

            def forward(self, x):
                return resize(x)

        own = Own()
        own.forward = lambda x: 2 * resize(x)
        refused(
            calling(lambda self, x: self.own(x), own=own), r"own \(F.interpolate\): the model calls the new layer 0"
        )

    def test_that_are_made_in_place_of_the_example(self):
        example = torch.rand(1, 1, 8, 8)
        kept = example.clone()
        model = nn.Sequential(nn.ReLU(inplace=True), nn.Hardtanh(-1, 0.1, inplace=True), Interpolating())
        equal_after_upgrade(model, example.clone(), example=example)
        assert torch.equal(example, kept)
