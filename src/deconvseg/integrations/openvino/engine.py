"""OpenVINO as an engine of prediction."""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from deconvseg.inference import register_engine
from deconvseg.integrations.exporting import trace
from deconvseg.integrations.exporting.running import ProgramEngine, Run, live_bytes
from deconvseg.integrations.openvino.converting import import_openvino, to_openvino
from deconvseg.models import Network

if TYPE_CHECKING:
    import openvino

_HINTS = {"32": "f32", "bf16": "bf16"}
_BYTES = {"f32": 4, "i32": 4, "u32": 4, "bf16": 2, "f16": 2, "i16": 2, "u16": 2, "i64": 8, "u64": 8, "f64": 8}


class OpenVinoEngine(ProgramEngine):
    """OpenVINO on the CPU, with a model of the input (B, C, \\*S); ``precision`` is that of its computation.

    An int8 model stays one in either precision, which is then that of the layers between. ``size_multiple`` and
    ``fixed_size`` are those of :class:`~deconvseg.inference.Engine`.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.openvino import OpenVinoEngine, to_openvino
        >>> from deconvseg.models import UNet
        >>> model = to_openvino(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32)))
        >>> engine = OpenVinoEngine(model, channels=1, size_multiple=(2, 2))
        >>> engine.logits(torch.rand(1, 1, 32, 32)).shape, engine.bytes((32, 32), 1) > 0
        (torch.Size([1, 2, 32, 32]), True)

    """

    def __init__(
        self,
        model: openvino.Model,
        *,
        channels: int,
        size_multiple: Sequence[int] | None = None,
        fixed_size: Sequence[int] | None = None,
        precision: str = "32",
    ) -> None:
        openvino = import_openvino()
        super().__init__(channels, size_multiple, fixed_size)
        self.title = f"OpenVINO {openvino.__version__.split('-')[0]}"
        self.precision = precision
        self._model = model
        self._core = openvino.Core()

    def compile(self, shape: tuple[int, ...]) -> tuple[Run, int]:
        """Compile the model for a shape of windows, with as many threads as PyTorch may use."""
        model = self._model.clone()
        model.reshape(list(shape))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        compiled = self._core.compile_model(model, "CPU", settings)
        # They are copied from OpenVINO's memory.
        logits = 4 * math.prod(compiled.output(0).shape)
        return lambda pixels: compiled(pixels, share_inputs=True)[0], _activations(compiled) + logits

    def program(self) -> Iterator[builtins.bytes]:
        """Yield the operations and their constants."""
        for operation in self._model.get_ordered_ops():
            yield f"{operation} {sorted(operation.get_attributes().items(), key=str)}".encode()
            if operation.get_type_name() == "Constant":
                yield operation.data.tobytes()


def _activations(compiled: openvino.CompiledModel) -> int:
    """Return the bytes of the tensors that OpenVINO needs at the same time, in its own order and precisions."""
    ordered = sorted(compiled.get_runtime_model().get_ordered_ops(), key=_order)
    return live_bytes([(_inputs(node), _outputs(node)) for node in ordered])


def _inputs(node: Any) -> list[str]:
    sources = [each.get_source_output() for each in node.inputs()]
    return [f"{source.node.get_friendly_name()} {source.index}" for source in sources]


def _outputs(node: Any) -> list[tuple[str, int]]:
    told = _told(node, "outputPrecisions").split(",")
    if _told(node, "layerType") == "Const":
        return []
    sizes = [_BYTES.get(told[min(each.index, len(told) - 1)], 1) * math.prod(each.shape) for each in node.outputs()]
    return [(f"{node.get_friendly_name()} {number}", size) for number, size in enumerate(sizes)]


def _order(node: Any) -> int:
    told = _told(node, "execOrder")
    return int(told) if told else -1


def _told(node: Any, key: str) -> str:
    return str(node.rt_info[key].value) if key in node.rt_info else ""


@register_engine("openvino", precisions=("32", "bf16"))
def make_openvino(network: Network, window: Sequence[int], *, precision: str) -> OpenVinoEngine:
    """Return OpenVINO's engine of a network."""
    import_openvino()
    traced = trace(network, window)
    sizes: dict[str, Any] = {"size_multiple": network.size_multiple} if traced.any_size else {"fixed_size": traced.size}
    return OpenVinoEngine(to_openvino(traced), channels=network.in_channels, **sizes, precision=precision)
