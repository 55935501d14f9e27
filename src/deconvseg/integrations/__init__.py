"""Exports of networks for ONNX Runtime, OpenVINO and PyTorch, with a contract for the programs that read them."""

from deconvseg.integrations.exporting.contract import Contract, Parity, read_contract
from deconvseg.integrations.exporting.export import export

__all__ = ["Contract", "Parity", "export", "read_contract"]
