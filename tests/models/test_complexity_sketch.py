"""Networks of all sorts are counted from copies without values, and stay as they were."""

import re
import threading
from threading import Lock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo import eval_frame

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.models import complexity, create_model
from deconvseg.models.complexity import measure_seconds
from deconvseg.models.complexity.sketch import Sketch

SHAPE = (2, 3, 8, 8)
CAPTURED = nn.Parameter(torch.ones(8))


class Calls(nn.Module):
    """A network that is one function of itself and an image."""

    def __init__(self, function=lambda self, x: self.linear(x)):
        super().__init__()
        self.function = function
        self.linear = nn.Linear(8, 8)
        self.held = torch.ones(8)
        self.listed = [nn.Parameter(torch.ones(8))]
        self.cache = {}

    def forward(self, x):
        """Call the function."""
        return self.function(self, x)


def caches(self, x):
    key = tuple(x.shape)
    self.last = x
    self.cache.setdefault(key, torch.ones(key, device=x.device))
    return self.linear(x) * self.cache[key]


def test_what_a_network_keeps_of_its_calls_is_not_its_own():
    model = Calls(caches)
    complexity(model, SHAPE)
    assert model.cache == {}
    assert not hasattr(model, "last")
    assert model(torch.rand(SHAPE)).device.type == "cpu"


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "normalise",
    [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm, torch.compile],
    ids=["weight_norm", "spectral_norm", "parametrised", "compiled"],
)
def test_layers_whose_weights_are_computed_are_counted_and_keep_them(normalise):
    model = normalise(nn.Linear(8, 4))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = complexity(model, SHAPE)
    assert found.operators["matrix_product"].macs >= 2 * 3 * 8 * 8 * 4
    assert found.training_failure is None
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert model.weight.device.type == "cpu"


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: self.linear(x) * torch.linspace(0, 1, 8) + torch.tensor(2.0),
        lambda self, x: self.linear(x) * self.held,
        lambda self, x: self.linear(x) * self.listed[0],
        lambda self, x: self.linear(x)[torch.tensor([0, 1])],
        lambda self, x: self.linear(x) * torch.linspace(0, 1, 8)[2].item(),
    ],
    ids=["made", "held", "listed", "index", "read"],
)
def test_constants_with_values_are_taken_beside_tensors_without(function):
    model = Calls(function)
    found = complexity(model, SHAPE)
    assert found.macs == 2 * 3 * 8 * 8 * 8
    assert found.training_bytes > found.inference_bytes
    assert model.held.device.type == model.listed[0].device.type == "cpu"


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.bfloat16, 2), (torch.float16, 2)])
def test_memory_is_that_of_the_parameters_type(dtype, size):
    model = create_model("unet", in_channels=1, out_channels=1, spatial_dims=2, widths=(4, 8), upsampling="dtc+fade")
    single, found = complexity(model, (2, 1, 16, 16)), complexity(model.to(dtype), (2, 1, 16, 16))
    # Indices of pooling are of the same type in both.
    assert found.inference_bytes == pytest.approx(single.inference_bytes * size / 4, rel=0.05)
    assert (found.macs, found.operators) == (single.macs, single.operators)
    if dtype is torch.float64:
        assert measure_seconds(model, (2, 1, 16, 16), runs=1) > 0


def test_a_shared_parameter_counts_once_and_its_work_each_time():
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    found = complexity(nn.Sequential(first, second), SHAPE)
    assert found.parameters == 64
    assert found.macs == 2 * (2 * 3 * 8 * 64)
    assert found.training_failure is None


def test_outputs_may_be_lists_and_dictionaries():
    plain = complexity(Calls(lambda self, x: self.linear(x)), SHAPE)
    assert complexity(Calls(lambda self, x: {"out": [self.linear(x)], "name": "a"}), SHAPE) == plain
    both = complexity(Calls(lambda self, x: (self.linear(x), [self.linear(x)])), SHAPE)
    assert both.macs == 2 * plain.macs
    assert both.training_bytes > plain.training_bytes


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_networks_are_counted_and_keep_less(use_reentrant):
    layers = [nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU()) for _ in range(2)]
    stem = nn.Linear(8, 8)

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.layers = stem, nn.ModuleList(layers)

        def forward(self, x):
            x = self.stem(x)
            for layer in self.layers:
                x = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=use_reentrant)
            return x

    kept = complexity(nn.Sequential(stem, *layers), SHAPE)
    found = complexity(Checkpointed(), SHAPE)
    assert found.operators == kept.operators
    assert found.training_bytes < kept.training_bytes


def test_around_data_parallel_the_network_is_counted():
    assert complexity(nn.DataParallel(nn.Linear(8, 8)), SHAPE) == complexity(nn.Linear(8, 8), SHAPE)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)),
            "refuses an input of shape .1, 3, 8, 8.: Expected more than 1 value per channel when training",
        ),
        (nn.ReLU(), "no parameter is trained"),
        (Calls(lambda self, x: self.linear(x).detach()), "no tensor of its output depends on a parameter"),
        (Calls(lambda self, x: self.linear(x) * CAPTURED), "no backward pass without values"),
    ],
    ids=["batch normalisation", "no parameters", "detached", "captured"],
)
def test_a_network_that_cannot_be_trained_is_counted_with_the_reason(model, reason):
    found = complexity(model, (1, 3, 8, 8))
    assert found.elementwise + found.macs > 0
    assert found.training_bytes is None
    assert re.search(reason, found.training_failure)
    assert complexity(model, (1, 3, 8, 8), training=False).training_failure is None


def looks_at_values(self, x):
    return x * 2 if x.mean().item() > 0 else x


def refuses(self, x):
    raise ValueError("sizes must divide by 32\nand more")


@torch.inference_mode()
def infers(self, x):
    return F.relu(x)


def locked():
    model = Calls()
    model.lock = Lock()
    return model


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (
            Calls(looks_at_values),
            DeconvsegError,
            r"stops at an input of shape \(2, 3, 8, 8\) without values .*item\(\)",
        ),
        (Calls(refuses), InputError, r"Calls refuses an input of shape \(2, 3, 8, 8\): sizes must divide by 32"),
        (Calls(infers), DeconvsegError, "torch.inference_mode"),
        (Calls(lambda self, x: self.cache["a"]), DeconvsegError, r"Calls stops at an input of shape \(2.*: 'a'; give"),
        (nn.Conv2d(2, 4, 3), DeconvsegError, "Conv2d stops at an input of shape .*channel.*; give another size"),
        (nn.LazyConv2d(4, 3), InputError, "LazyConv2d has parameters without a shape .*: call it with an image first"),
        (locked(), DeconvsegError, "Calls cannot be copied .cannot pickle '_thread.lock' object.: keep"),
    ],
    ids=["values", "refuses", "infers", "key", "channels", "lazy", "lock"],
)
def test_networks_that_cannot_be_counted_say_why(model, kind, message):
    with pytest.raises(kind, match=message) as raised:
        complexity(model, SHAPE)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_torchscript_is_refused():
    with pytest.raises(DeconvsegError, match="TorchScript: count the module that it was made from"):
        complexity(nn.Sequential(torch.jit.script(nn.Linear(8, 8))), SHAPE)


@pytest.mark.parametrize("shape", [(1,), (1, 0, 4), (1, 1, 4.0), (), 5, "1188", (True, 1, 8, 8), None])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(InputError, match="give \\(batch, channels, \\*sizes\\)"):
        complexity(nn.Identity(), shape)


class Waits(nn.Module):
    """Announces that it is called, then waits until it may return."""

    def __init__(self, called: threading.Event, may_return: threading.Event) -> None:
        super().__init__()
        self.called, self.may_return = called, may_return
        self.weight = nn.Parameter(torch.zeros(1))

    def __deepcopy__(self, memo: object) -> "Waits":
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.called.set()
        self.may_return.wait(5)
        return x


def test_two_threads_leave_compiled_code_as_it_was():
    before = eval_frame._stance.stance
    first, second = (Waits(threading.Event(), threading.Event()) for _ in range(2))
    threads = [
        threading.Thread(target=lambda net=net: Sketch(net).call(torch.empty(1, 1, 4, 4, device="meta")))
        for net in (first, second)
    ]
    threads[0].start()
    first.called.wait(5)
    threads[1].start()
    # Without a lock the second would be inside by now, and the first would leave before it.
    second.called.wait(0.2)
    for net, thread in zip((first, second), threads, strict=True):
        net.may_return.set()
        thread.join(10)
    assert eval_frame._stance.stance == before
