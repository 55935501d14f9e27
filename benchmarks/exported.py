"""Networks in the inference engines of others: written once to files, then run from them as a clinic would.

OpenVINO and ONNX Runtime are given one exported program each, of the image's exact shape, the number of threads of
PyTorch, and the settings that their documentation names for the shortest time of one image.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Python packages that an engine and the export to it need.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch": (),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}
# The names of OpenVINO's precisions.
HINTS: Mapping[str, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def missing(engine: str) -> list[str]:
    """The packages of an engine that are not installed."""
    return [name for name in PACKAGES[engine] if find_spec(name) is None]


def export(network: nn.Module, image: Tensor, engine: str, folder: Path) -> Path:
    """Write a network in evaluation mode for an engine, for images of exactly this shape; return the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if engine == "openvino":
            import openvino

            file = folder / "network.xml"
            program = torch.export.export(network, (image,))
            # The engine's default would round the weights in the file to float16.
            openvino.save_model(openvino.convert_model(program), file, compress_to_fp16=False)
        else:
            file = folder / "network.onnx"
            torch.onnx.export(network, (image,), file, dynamo=True, verbose=False, external_data=True)
    return file


def run_openvino(file: Path, image: Tensor, threads: int, precision: str | None) -> Callable[[], Tensor]:
    """One pass of a file in OpenVINO, in its default precision (None), or in the one of PyTorch's name."""
    import openvino

    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = HINTS[precision]
    compiled = openvino.compile_model(file, "CPU", settings)
    pixels = image.numpy()
    return lambda: torch.from_numpy(compiled(pixels)[0])


def default_precision() -> str:
    """The precision that OpenVINO takes on this processor without being asked, in PyTorch's name."""
    import openvino

    found = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return str(found.get_type_name()).replace("f32", "float32").replace("bf16", "bfloat16").replace("f16", "float16")


def run_onnxruntime(file: Path, image: Tensor, threads: int) -> Callable[[], Tensor]:
    """One pass of a file in ONNX Runtime on the CPU, in float32, with all its optimisations."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    pixels = image.numpy()
    return lambda: torch.from_numpy(session.run(None, {name: pixels})[0])


def versions() -> dict[str, str]:
    """The versions of the engines that are installed."""
    from importlib.metadata import version

    names = ("torch", "openvino", "onnxruntime")
    return {name: version(name) for name in names if find_spec(name) is not None}
