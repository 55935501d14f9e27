"""ONNX: programs of networks for ONNX Runtime and other software."""

from deconvseg.integrations.onnx.converting import to_onnx

__all__ = ["to_onnx"]
