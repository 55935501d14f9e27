"""Networks as ONNX models."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.integrations.exporting.tracing import Traced, quiet
from deconvseg.ops.torch_internals import ONNX_LOG
from deconvseg.system import FOREIGN_ERRORS, first_line

if TYPE_CHECKING:
    import onnx

# The first version with GridSample for volumes.
OPSET = 20
# A file in the format of protocol buffers has fewer bytes.
_MOST_BYTES = 2**31 - 1


def to_onnx(traced: Traced) -> onnx.ModelProto:
    """Return a traced network as an ONNX model of opset 20, of standard operators, checked by ``onnx.checker``.

    Its input is ``image`` (B, C, \\*S) and its output ``logits`` (B, K, \\*S), in float32. Raises
    :class:`~deconvseg.errors.MissingPackageError` without the packages of the extra ``onnx``, and
    :class:`~deconvseg.errors.DeconvsegError` if the exporter fails.

    Example:
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.onnx import to_onnx
        >>> from deconvseg.models import UNet
        >>> model = to_onnx(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32), sampling="grid_sample"))
        >>> model.opset_import[0].version, [each.name for each in model.graph.input]
        (20, ['image'])

    """
    checker = import_checker()
    try:
        with _silent(), torch.no_grad():
            program = torch.onnx.export(
                traced.program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                custom_translation_table=_translations(),
                verbose=False,
            )
        assert program is not None
        model: onnx.ModelProto = program.model_proto
        _strip(model)
        if model.ByteSize() > _MOST_BYTES:
            raise InputError("the networks take more than the 2 GB of an ONNX file: export fewer together")
        checker.check_model(model, full_check=True)
    except (*FOREIGN_ERRORS, torch.onnx.OnnxExporterError, checker.ValidationError) as error:
        if isinstance(error, DeconvsegError):
            raise
        raise DeconvsegError(f"PyTorch's exporter to ONNX failed: {first_line(error)}") from error
    return model


def import_checker() -> Any:
    """Import ONNX's checker; :class:`~deconvseg.errors.MissingPackageError` without a package of the extra."""
    try:
        import onnxscript  # noqa: F401 (the exporter of PyTorch imports it)
        from onnx import checker
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"ONNX models are made with onnx and onnxscript, but {error.name} is not installed: "
            "pip install 'deconvseg[onnx]'"
        ) from error
    return checker


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translation of an operator that PyTorch's exporter does not translate: ``grid_sample`` in 3D."""
    from onnxscript import opset20 as op

    modes, paddings = ("linear", "nearest"), ("zeros", "border", "reflection")

    def grid_sampler_3d(x: Any, grid: Any, mode: int = 0, padding: int = 0, align_corners: bool = False) -> Any:
        return op.GridSample(
            x, grid, mode=modes[mode], padding_mode=paddings[padding], align_corners=int(align_corners)
        )

    return {torch.ops.aten.grid_sampler_3d.default: grid_sampler_3d}


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on its input, among them paths of source files."""
    model.ClearField("metadata_props")
    for function in (model.graph, *model.functions):
        function.ClearField("metadata_props")
        for node in function.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.ClearField("metadata_props")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress what the exporter prints and logs about itself, as that torchvision is not installed."""
    log = logging.getLogger(ONNX_LOG)
    before, log.disabled = log.disabled, True
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.disabled = before
