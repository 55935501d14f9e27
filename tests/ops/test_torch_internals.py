"""PyTorch's private parts: they are in one file, they answer, and where one is missing plain PyTorch runs."""

import importlib.util
import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import deconvseg
from deconvseg.ops import torch_internals

SOURCES = Path(deconvseg.__file__).parent
PRIVATE = re.compile(
    r"torch\._[a-zA-Z]|from torch[a-z.]*\._|torch(\.[a-z]+)+\._[a-zA-Z]|_functorch|forward_ad\._|modules\.\w+\._"
    r"|_call_impl|\._(forward|backward)\w*_hooks|\b(tensor|weight|x)\._version|node\._\w+|(module|parent|layer)\._modules"
)


def test_private_parts_are_in_one_file():
    users = {path for path in SOURCES.rglob("*.py") if PRIVATE.search(path.read_text())}
    assert users == {Path(torch_internals.__file__)}


def without(monkeypatch: pytest.MonkeyPatch, owner: object, name: str):
    """The module as it is imported where PyTorch lacks something."""
    monkeypatch.delattr(owner, name)
    spec = importlib.util.spec_from_file_location("internals_without", torch_internals.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CALLS = torch.nn.modules.module
# What is missing, and the question that then leads to plain PyTorch.
MISSING = [
    (torch._C, "_are_functorch_transforms_active", lambda it: it.transforms_are_active()),
    (torch._C, "_is_tracing", lambda it: it.is_tracing()),
    (torch._C._functorch, "is_legacy_batchedtensor", lambda it: it.is_batch_of_gradients(torch.ones(1))),
    (
        torch._C._autograd,
        "_top_saved_tensors_default_hooks",
        lambda it: len({*map(it.saved_tensor_hooks, [True] * 2)}) > 1,
    ),
    (torch._C, "_len_torch_function_stack", lambda it: it.has_function_mode()),
    (torch._C, "_len_torch_dispatch_stack", lambda it: it.has_dispatch_mode()),
    (torch._C, "_get_dispatch_mode", lambda it: it.is_recorded()),
    (torch._C, "_TorchDispatchModeKey", lambda it: it.is_recorded()),
    *(
        (CALLS, f"_global_{which}_hooks", lambda it: it.all_modules_have_a_hook())
        for which in ("forward", "backward_pre")
    ),
]


@pytest.mark.parametrize(("owner", "name", "ask"), MISSING, ids=[name for _, name, _ in MISSING])
def test_what_is_missing_leads_to_plain_pytorch_and_is_logged(owner, name, ask, monkeypatch, caplog):
    assert not ask(torch_internals)
    with caplog.at_level(logging.WARNING, logger="deconvseg"):
        module = without(monkeypatch, owner, name)
    assert ask(module)
    assert f"has no {owner.__name__}" in caplog.text or name in caplog.text


def test_what_is_asked_of_pytorch_at_each_call_may_be_missing_too(monkeypatch):
    layer = nn.Linear(1, 1)
    assert not torch_internals.forward_mode_is_active()
    assert not torch_internals.calls_were_replaced()
    assert not torch_internals.has_hook(vars(layer))
    monkeypatch.delattr(forward_ad, "_current_level")
    assert torch_internals.forward_mode_is_active()
    monkeypatch.delattr(nn.Module, "_wrapped_call_impl")
    assert torch_internals.calls_were_replaced()
    del layer._backward_pre_hooks
    assert torch_internals.has_hook(vars(layer))
    monkeypatch.undo()


def test_a_graph_checks_by_a_function_of_ours_where_pytorch_has_none(monkeypatch):
    module = without(monkeypatch, torch, "_assert")
    module.graph_assert(True, "nothing")
    with pytest.raises(AssertionError, match="wrong"):
        module.graph_assert(False, "wrong")


def test_a_compiled_module_is_known():
    layer = nn.Linear(1, 1)
    assert not torch_internals.is_compiled(layer)
    assert torch_internals.is_compiled(torch.compile(layer, backend="eager"))
    layer.compile(backend="eager")
    assert torch_internals.is_compiled(layer)


def test_a_module_that_is_missing_is_as_a_name_that_is(caplog):
    with caplog.at_level(logging.WARNING, logger="deconvseg"):
        assert torch_internals.find("torch.utils._no_such_part", "Something", "plain") == "plain"
    assert "has no torch.utils._no_such_part.Something: plain PyTorch runs in more places" in caplog.text
