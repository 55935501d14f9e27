"""Exports of networks for ONNX Runtime, OpenVINO and PyTorch, with a contract for the programs that read them."""

from deconvseg.integrations.exporting.contract import Contract, Parity, Quantisation, read_contract
from deconvseg.integrations.exporting.export import export

__all__ = ["Contract", "Parity", "Quantisation", "export", "read_contract"]
