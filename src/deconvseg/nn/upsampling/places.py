"""Places where a model upsamples: its modules, and functional calls in their forwards."""

import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import fx, nn

from deconvseg.errors import InputError
from deconvseg.nn.upsampling import functional
from deconvseg.nn.upsampling.probing import Call, Calls, Resized
from deconvseg.nn.upsampling.registry import layer_classes
from deconvseg.nn.upsampling.summed import SummedUpsampling
from deconvseg.ops.torch_internals import ConvTransposeNd, children_of, has_hook


@dataclass(frozen=True)
class Sizes:
    """The channels and the scale per spatial axis of an upsampling layer."""

    in_channels: int
    out_channels: int
    scale: tuple[int, ...]


@dataclass
class Place(ABC):
    """A place where a model upsamples: once or, in functional calls of one module, several times."""

    module: nn.Module
    paths: list[str]
    calls: Sequence[Call]

    @property
    @abstractmethod
    def found(self) -> str:
        """The layer or function that upsamples here."""

    @abstractmethod
    def sizes(self) -> list[Sizes]:
        """Return the sizes of each upsampling here; :class:`InputError` with the reason if it cannot be changed."""

    @abstractmethod
    def change(self, model: nn.Module, layers: Sequence[nn.Module], mode: str) -> None:
        """Add a layer to each upsampling, or replace it, according to ``mode``."""


@dataclass
class Modules:
    """The modules of a model with their paths: those that upsample, and others, which may have functional calls."""

    upsampling: dict[nn.Module, list[str]] = field(default_factory=lambda: defaultdict(list))
    learned: dict[nn.Module, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: dict[nn.Module, list[str]] = field(default_factory=lambda: defaultdict(list))


def find_modules(model: nn.Module) -> Modules:
    """Classify the modules of a model, without descending into those that upsample."""
    found = Modules()

    def visit(module: nn.Module, path: str) -> None:
        if isinstance(module, (SummedUpsampling, *layer_classes(adaptive=True))):
            found.learned[module].append(path)
        elif _may_upsample(module):
            found.upsampling[module].append(path)
        else:
            found.others[module].append(path)
            for name, child in children_of(module).items():
                if child is not None:
                    visit(child, f"{path}.{name}" if path else name)

    visit(model, "")
    return found


def find_places(modules: Modules, calls: Calls) -> Iterator[Place]:
    """Yield the places of a model; ``calls`` are those recorded in a run, empty if it could not be run."""
    for module, paths in modules.upsampling.items():
        place = ModulePlace(module, paths, calls.get(module, ()))
        if place.upsamples():
            yield place
    for module, paths in modules.others.items():
        own = [call for call in calls.get(module, ()) if any(map(_enlarges, call.interpolated))]
        if own and not isinstance(module, functional.TracedForward):
            yield FunctionalPlace(module, paths, calls[module])


@dataclass
class ModulePlace(Place):
    """A module that upsamples."""

    @property
    def found(self) -> str:
        """The name of the layer's class."""
        return type(self.module).__name__

    def upsamples(self) -> bool:
        """Return whether the module enlarges images; True if unknown."""
        resized = [call.resized for call in self.calls if call.resized is not None]
        return not resized or any(map(_enlarges, resized))

    def check(self, model: nn.Module, mode: str, *, ran: bool) -> None:
        """Raise :class:`InputError` for a place that cannot be changed; ``ran`` says whether the model could be run."""
        if self.module is model:
            raise InputError("it is the model itself: make the layer by create_upsampling")
        if ran and not self.calls:
            raise InputError("no run of the model shows its channels: it is not called when the model evaluates")
        if mode == "replace" and has_hook(vars(self.module)):
            raise InputError("it has hooks, which would be lost with it: remove them, or give mode='beside'")
        if mode == "replace" and isinstance(self.module, nn.Upsample) and self.module.size is not None:
            raise InputError(
                f"it makes images of one size, {self.module.size}, and the new layer would not: give mode='beside', or "
                "Upsample by scale_factor"
            )

    def sizes(self) -> list[Sizes]:
        """Return the sizes that the module declares or, if it does not, those recorded in the run."""
        seen = [call.resized for call in self.calls]
        if any(resized is None or not resized.alone for resized in seen):
            raise InputError("it is not called with one tensor alone")
        declared = _declared_sizes(self.module)
        if declared is not None:
            return [declared]
        if not seen:
            raise InputError("no run of the model shows its channels")
        return [_common_sizes([resized for resized in seen if resized is not None])]

    def change(self, model: nn.Module, layers: Sequence[nn.Module], mode: str) -> None:
        """Set the new layer wherever the module is registered."""
        new = SummedUpsampling(self.module, layers[0]) if mode == "beside" else layers[0]
        new.training = self.module.training
        for parent in list(model.modules()):
            for name, child in list(children_of(parent).items()):
                if child is self.module:
                    setattr(parent, name, new)


@dataclass
class FunctionalPlace(Place):
    """A module whose own forward calls ``interpolate``."""

    found = "F.interpolate"

    @cached_property
    def graph(self) -> fx.Graph:
        """The graph of the module's forward."""
        first, *others = (call.fixed for call in self.calls)
        varying = {name for other in others for name, _ in first.items() ^ other.items()}
        if varying:
            raise InputError(f"its forward is called with different {', '.join(sorted(varying))}, a branch for each")
        graph = functional.trace(self.module, first)
        traced = len(functional.interpolations(graph))
        for call in self.calls:
            if len(call.interpolated) != traced:
                raise InputError(f"it ran {len(call.interpolated)} calls of interpolate, but its graph has {traced}")
        return graph

    def sizes(self) -> list[Sizes]:
        """Return the sizes of each upsampling call, as recorded in the run."""
        return [_common_sizes(seen) for _, seen in self._upsampling(self.graph)]

    def change(self, model: nn.Module, layers: Sequence[nn.Module], mode: str) -> None:
        """Rewrite the forward."""
        named = dict(zip(functional.free_names(self.module, len(layers)), layers, strict=True))
        graph = deepcopy(self.graph)
        for (node, _), name in zip(self._upsampling(graph), named, strict=True):
            functional.change(graph, node, name, mode)
        functional.install(self.module, functional.compile_forward(self.module, graph, named), named)

    def _upsampling(self, graph: fx.Graph) -> list[tuple[fx.Node, Sequence[Resized]]]:
        """Return the upsampling calls with the sizes recorded in the run."""
        by_node = zip(*(call.interpolated for call in self.calls), strict=True)
        nodes = zip(functional.interpolations(graph), by_node, strict=True)
        return [(node, seen) for node, seen in nodes if any(map(_enlarges, seen))]


def _may_upsample(module: nn.Module) -> bool:
    if isinstance(module, ConvTransposeNd):
        return any(step > 1 for step in module.stride)
    return isinstance(module, (nn.Upsample, nn.PixelShuffle, *layer_classes(adaptive=False), *_monai_layers()))


def _monai_layers() -> tuple[type[nn.Module], ...]:
    # The model can contain a layer of MONAI only if MONAI was imported.
    monai = sys.modules.get("monai.networks.blocks.upsample")
    return (monai.UpSample, monai.SubpixelUpsample) if monai is not None else ()


def _enlarges(resized: Resized) -> bool:
    pairs = zip(resized.before[2:], resized.after[2:], strict=True)
    return len(resized.before) == len(resized.after) and any(after > before for before, after in pairs)


def _declared_sizes(module: nn.Module) -> Sizes | None:
    """Return the sizes that a layer declares, or None."""
    if isinstance(module, layer_classes(adaptive=False)):
        layer: Any = module
        known = all(hasattr(layer, name) for name in ("in_channels", "out_channels", "scale"))
        return Sizes(layer.in_channels, layer.out_channels, layer.scale) if known else None
    if isinstance(module, ConvTransposeNd):
        return _transposed_sizes(module)
    if isinstance(module, _monai_layers()):
        transposed = [child for child in module.children() if isinstance(child, ConvTransposeNd)]
        return _transposed_sizes(transposed[0]) if transposed else None
    return None


def _transposed_sizes(conv: ConvTransposeNd) -> Sizes:
    settings = (conv.stride, conv.kernel_size, map(int, conv.padding), conv.output_padding, conv.dilation)
    for stride, kernel, padding, output_padding, dilation in zip(*settings, strict=True):
        # The output has (size - 1) * stride + extra pixels.
        extra = dilation * (kernel - 1) + 1 - 2 * padding + output_padding
        if extra != stride:
            raise InputError(
                f"its output is not {tuple(conv.stride)} times the input (kernel {tuple(conv.kernel_size)}, padding "
                f"{tuple(conv.padding)}, output padding {tuple(conv.output_padding)}), but {extra - stride:+d} pixels"
            )
    return Sizes(conv.in_channels, conv.out_channels, tuple(conv.stride))


def _common_sizes(seen: Sequence[Resized]) -> Sizes:
    """Return the common sizes of all calls; :class:`InputError` if they differ."""
    sizes = sorted({(*_factors(resized), resized.before[1], resized.after[1]) for resized in seen})
    if len(sizes) > 1:
        channels = sorted({size[-2:] for size in sizes})
        if len(channels) > 1:
            listed = " and ".join(f"{before} to {after}" for before, after in channels)
            raise InputError(f"it is used with different channels ({listed}), which one layer cannot serve")
        listed = " and ".join(str(size[:-2]) for size in sizes)
        raise InputError(f"its factor is not always the same ({listed})")
    *scale, in_channels, out_channels = sizes[0]
    return Sizes(in_channels, out_channels, tuple(scale))


def _factors(resized: Resized) -> tuple[int, ...]:
    before, after = resized.before[2:], resized.after[2:]
    if any(large % small for small, large in zip(before, after, strict=True)):
        raise InputError(f"it goes from {before} to {after} pixels, which is not an integer factor")
    return tuple(large // small for small, large in zip(before, after, strict=True))
