"""OpenVINO: programs of networks for Intel's runtime, and the runtime as an engine."""

from deconvseg.integrations.openvino.converting import to_openvino
from deconvseg.integrations.openvino.engine import OpenVinoEngine

__all__ = ["OpenVinoEngine", "to_openvino"]
