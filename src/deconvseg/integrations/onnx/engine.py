"""ONNX Runtime as an engine of prediction."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deconvseg.errors import MissingPackageError
from deconvseg.inference import register_engine
from deconvseg.integrations.exporting import trace
from deconvseg.integrations.exporting.running import ProgramEngine, Run, live_bytes
from deconvseg.integrations.onnx.converting import to_onnx
from deconvseg.models import Network


class OnnxRuntimeEngine(ProgramEngine):
    """ONNX Runtime on the CPU, in float32, with a model of the input (B, C, \\*S) in ONNX's format.

    ``size_multiple`` and ``fixed_size`` are those of :class:`~deconvseg.inference.Engine`.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.onnx import OnnxRuntimeEngine, to_onnx
        >>> from deconvseg.models import UNet
        >>> model = to_onnx(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32))).SerializeToString()
        >>> engine = OnnxRuntimeEngine(model, size_multiple=(2, 2))
        >>> engine.logits(torch.rand(1, 1, 32, 32)).shape, engine.bytes((32, 32), 1) > 0
        (torch.Size([1, 2, 32, 32]), True)

    """

    def __init__(
        self,
        model: builtins.bytes,
        *,
        size_multiple: Sequence[int] | None = None,
        fixed_size: Sequence[int] | None = None,
    ) -> None:
        self._runtime, self._onnx = _packages()
        given = self._onnx.load_from_string(model).graph.input[0]
        super().__init__(given.type.tensor_type.shape.dim[1].dim_value, size_multiple, fixed_size)
        self.title = f"ONNX Runtime {self._runtime.__version__}"
        self.precision = "32"
        self._model = model
        self._input = given.name

    def compile(self, shape: tuple[int, ...]) -> tuple[Run, int]:
        """Start a session for a shape of windows, with as many threads as PyTorch may use."""
        model = self._sized(shape)
        settings = self._runtime.SessionOptions()
        settings.intra_op_num_threads = self.threads
        settings.log_severity_level = 3
        # The arena would keep the peak of every run, and grows by doubling.
        settings.enable_cpu_mem_arena = False
        session = self._runtime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        return lambda pixels: session.run(None, {self._input: pixels})[0], self._activations(model)

    def _sized(self, shape: tuple[int, ...]) -> Any:
        """Return the model with the sizes of its input and, as far as they follow from these, of all its tensors."""
        model = self._onnx.load_from_string(self._model)
        for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
        del model.graph.value_info[:]
        for dimension in model.graph.output[0].type.tensor_type.shape.dim:
            dimension.Clear()
        return self._onnx.shape_inference.infer_shapes(model, data_prop=True)

    def _activations(self, model: Any) -> int:
        """Return the bytes of the tensors that are needed at the same time, in the order of the model's operators."""
        sizes = {value.name: self._size(value) for value in (*model.graph.value_info, *model.graph.output)}
        first: list[tuple[list[str], list[tuple[str, int]]]] = [
            ([], [(value.name, self._size(value)) for value in model.graph.input])
        ]
        steps = [(list(node.input), [(name, sizes.get(name, 0)) for name in node.output]) for node in model.graph.node]
        return live_bytes([*first, *steps])

    def _size(self, value: Any) -> int:
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        return int(np.dtype(kind).itemsize * np.prod(sides, dtype=np.int64))

    def program(self) -> Iterator[builtins.bytes]:
        """Yield the model."""
        yield self._model


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"ONNX Runtime needs onnx and onnxruntime, but {error.name} is not installed: pip install 'deconvseg[onnx]'"
        ) from error
    return onnxruntime, onnx


@register_engine("onnxruntime", precisions=("32",))
def make_onnxruntime(network: Network, window: Sequence[int], *, precision: str) -> OnnxRuntimeEngine:
    """Return ONNX Runtime's engine of a network."""
    _packages()
    traced = trace(network, window, sampling="grid_sample")
    sizes: dict[str, Any] = {"size_multiple": network.size_multiple} if traced.any_size else {"fixed_size": traced.size}
    return OnnxRuntimeEngine(to_onnx(traced).SerializeToString(), **sizes)
