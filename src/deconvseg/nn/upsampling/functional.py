"""Calls of ``interpolate`` in a module's own forward, found and changed in its ``torch.fx`` graph."""

import inspect
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from deconvseg.errors import InputError
from deconvseg.nn.observing import Snapshot, unchanged
from deconvseg.nn.upsampling.summed import add_beside, resample
from deconvseg.ops.torch_internals import graph_assert, rename
from deconvseg.system import FOREIGN_ERRORS, first_line


class TracedForward:
    """Marks a module with a rewritten forward: its state dict can be saved and loaded, the module cannot be pickled."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def trace(module: nn.Module, fixed: Mapping[str, object]) -> fx.Graph:
    """Trace a module's own forward with its children as leaves, for fixed values of some arguments.

    Raises :class:`~deconvseg.errors.InputError` with the reason if that is impossible, or if the graph differs between
    training and evaluation.
    """
    training = module.training
    try:
        graphs = []
        for mode in (True, False):
            module.training = mode
            graphs.append(_trace(module, fixed))
    finally:
        module.training = training
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        raise InputError("its forward does something else in training than in evaluation")
    return graphs[0]


def interpolations(graph: fx.Graph) -> list[fx.Node]:
    """Return the calls of ``interpolate`` in the order in which they run."""
    return [node for node in graph.nodes if node.op == "call_function" and node.target is F.interpolate]


def change(graph: fx.Graph, node: fx.Node, name: str, mode: str) -> None:
    """Add a child layer's output to an ``interpolate`` call, or replace the call by the layer.

    If the call specifies a size, the new layer's result is resampled to it.
    """
    image = node.args[0] if node.args else node.kwargs["input"]
    size = node.args[1] if len(node.args) > 1 else node.kwargs.get("size")
    readers = list(node.users)
    if mode == "beside":
        with graph.inserting_after(node):
            module = graph.create_node("get_attr", name)
        with graph.inserting_after(module):
            out = graph.call_function(add_beside, (module, image, node))
    else:
        with graph.inserting_after(node):
            out = made = graph.call_module(name, (image,))
        if size is not None:
            with graph.inserting_after(made):
                out = graph.call_function(resample, (made, size))
    for reader in readers:
        reader.replace_input_with(node, out)
    if mode == "replace":
        graph.erase_node(node)


def compile_forward(module: nn.Module, graph: fx.Graph, layers: Mapping[str, nn.Module]) -> Callable[..., Any]:
    """Return a forward compiled from the graph, for the module with additional children."""
    used = {node.target for node in graph.nodes if node.op in ("call_module", "get_attr")}
    root = {name: layers[name] if name in layers else operator.attrgetter(name)(module) for name in used}
    # A copy, because the graph may still be changed.
    forward: Callable[..., Any] = type(fx.GraphModule(root, deepcopy(graph))).forward
    return forward


def install(module: nn.Module, forward: Callable[..., Any], layers: Mapping[str, nn.Module]) -> None:
    """Give a module another forward and additional children; it remains the same object with the same parameters.

    Its class becomes a subclass, as with PyTorch's parametrisations, so that copies have the new forward too.
    """
    for name, layer in layers.items():
        module.add_module(name, layer)
    original = type(module)
    namespace = {"forward": forward, "__module__": __name__, "__doc__": original.__doc__}
    module.__class__ = types.new_class(
        f"Traced{original.__name__}", (TracedForward, original), exec_body=lambda body: body.update(namespace)
    )


def free_names(module: nn.Module, count: int) -> Sequence[str]:
    """Return names for new children that the module does not use yet."""
    names = (f"upsampling_{number}" if number else "upsampling" for number in range(1000))
    free = (name for name in names if not hasattr(module, name))
    return [next(free) for _ in range(count)]


def _trace(module: nn.Module, fixed: Mapping[str, object]) -> fx.Graph:
    with unchanged(module):
        before = Snapshot(module)
        try:
            graph = _Tracer().trace(module, dict(fixed))
        except FOREIGN_ERRORS as error:
            raise InputError(f"torch.fx cannot trace its forward ({first_line(error)})") from error
        written = before.changed()
    if any(name.startswith("_tensor_constant") for name in written):
        raise InputError("torch.fx cannot trace its forward, which makes constant tensors")
    if written:
        raise InputError(f"its forward writes {', '.join(written)}, which a graph of torch.fx would not do again")
    _restore_names(graph, module)
    _guard(graph, fixed)
    return graph


def _restore_names(graph: fx.Graph, module: nn.Module) -> None:
    """Restore the names of the arguments, to which ``torch.fx`` appends numbers."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind not in variable]
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for name, node in zip(names, placeholders, strict=False):
        if name != node.name:
            # The inner name differs from all arguments, whose names may end in a number too.
            rename(node, f"argument_{name}")
            node.target = name


def _guard(graph: fx.Graph, fixed: Mapping[str, object]) -> None:
    """Reject None at run time for optional arguments that were given, because the graph has no branch for None."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node in placeholders:
        if node.args == (None,) and node.target not in fixed:
            with graph.inserting_before(placeholders[-1].next):
                given = graph.call_function(operator.is_not, (node, None))
                message = f"{node.target} is None, but was given when the upsampling was upgraded"
                graph.call_function(graph_assert, (given, message))
