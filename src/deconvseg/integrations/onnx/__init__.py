"""ONNX: programs of networks for ONNX Runtime and other software, and ONNX Runtime as an engine."""

from deconvseg.integrations.onnx.converting import to_onnx
from deconvseg.integrations.onnx.engine import OnnxRuntimeEngine

__all__ = ["OnnxRuntimeEngine", "to_onnx"]
