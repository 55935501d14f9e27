"""Exports of networks for ONNX Runtime, OpenVINO and PyTorch, with a contract for the programs that read them."""

from deconvseg.integrations.exporting.contract import Contract, Parity, Quantisation, read_contract
from deconvseg.integrations.exporting.export import export
from deconvseg.integrations.hub import Pushed, push
from deconvseg.integrations.sharing import pack

__all__ = ["Contract", "Parity", "Pushed", "Quantisation", "export", "pack", "push", "read_contract"]
