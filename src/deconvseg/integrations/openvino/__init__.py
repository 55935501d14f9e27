"""OpenVINO: programs of networks for Intel's runtime, and the runtime as an engine."""

from deconvseg.integrations.openvino.converting import read_model, to_openvino
from deconvseg.integrations.openvino.engine import OpenVinoEngine
from deconvseg.integrations.openvino.quantising import calibration_windows, quantise

__all__ = ["OpenVinoEngine", "calibration_windows", "quantise", "read_model", "to_openvino"]
