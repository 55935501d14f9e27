"""A traced network in each format of an export: its files, and the function that computes their logits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deconvseg.errors import MissingPackageError
from deconvseg.integrations.exporting.contract import ExportedNetwork, ExportFormat
from deconvseg.integrations.exporting.tracing import Traced, quiet
from deconvseg.ops.deformable_upsample.exporting import Form

if TYPE_CHECKING:
    import openvino

Floats = NDArray[np.float32]
Compute = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Program:
    """The files of an exported network by their names, that of the model first, and what computes its logits."""

    files: Mapping[str, bytes]
    compute: Compute
    opset: int | None = None


def choose_sampling(format: ExportFormat, dims: int) -> Form:
    """Return the form of sampling that the format's own runtime computes as one operator, or else "gather"."""
    return "gather" if format == "openvino" and dims == 3 else "grid_sample"


def check_packages(format: ExportFormat) -> None:
    """Import the packages of a format; :class:`~deconvseg.errors.MissingPackageError` names the extra to install."""
    if format == "onnx":
        from deconvseg.integrations.onnx.converting import import_checker

        import_checker()
        _import_onnxruntime()
    elif format == "openvino":
        from deconvseg.integrations.openvino.converting import import_openvino

        import_openvino()
    elif format == "monai-bundle":
        from deconvseg.integrations.monai.bundle import check_bundle_packages

        check_bundle_packages()


def convert(traced: Traced, format: ExportFormat) -> Program:
    """Convert a traced network; :class:`~deconvseg.errors.MissingPackageError` names the extra to install."""
    return _CONVERTERS[format](traced)


def save_weights(network: nn.Module, networks: Sequence[ExportedNetwork]) -> Program:
    """Return the weights of a network for a bundle of MONAI, computed by a new network that has read them."""
    from deconvseg.integrations.monai.bundle import WEIGHTS, from_checkpoint, to_checkpoint

    content = to_checkpoint(network)
    read = from_checkpoint(content, networks, WEIGHTS)

    def compute(x: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = read(torch.from_numpy(x)).numpy()
        return logits

    return Program({WEIGHTS: content}, compute)


def convert_to_int8(traced: Traced, windows: Sequence[Floats]) -> Program:
    """Convert a traced network to OpenVINO, in 8 bits by the ranges on ``windows``, whose size becomes the only one."""
    from deconvseg.integrations.openvino.converting import to_openvino
    from deconvseg.integrations.openvino.quantising import quantise

    return _save(quantise(to_openvino(traced), windows))


def _to_onnx(traced: Traced) -> Program:
    from deconvseg.integrations.onnx.converting import OPSET, to_onnx

    content = to_onnx(traced).SerializeToString()
    session = _import_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    return Program({"model.onnx": content}, lambda x: session.run(["logits"], {"image": x})[0], OPSET)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "an ONNX model is compared with its network by onnxruntime, which is not installed: "
            "pip install 'deconvseg[onnx]'"
        ) from error
    return onnxruntime


def _to_openvino(traced: Traced) -> Program:
    from deconvseg.integrations.openvino.converting import to_openvino

    return _save(to_openvino(traced))


def _save(model: openvino.Model) -> Program:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder) / "model.xml", compress_to_fp16=False)
        files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
    # Its default on some processors is bfloat16.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return Program(files, lambda x: compiled({"image": x})["logits"])


def _to_torch(traced: Traced) -> Program:
    from deconvseg.integrations.torch_export import to_pt2

    module: Any = traced.program.module()

    def compute(x: Floats) -> Floats:
        with torch.no_grad(), quiet():
            logits: Floats = module(torch.from_numpy(x)).numpy()
        return logits

    return Program({"model.pt2": to_pt2(traced)}, compute)


_CONVERTERS: Mapping[ExportFormat, Callable[[Traced], Program]] = {
    "onnx": _to_onnx,
    "openvino": _to_openvino,
    "torch-export": _to_torch,
}
