"""OpenVINO: programs of networks for Intel's runtime."""

from deconvseg.integrations.openvino.converting import to_openvino

__all__ = ["to_openvino"]
