"""Other software: a room each. Exports for ONNX Runtime, OpenVINO and PyTorch, with a contract for their readers."""

from deconvseg.integrations.exporting.contract import Contract, Parity, read_contract
from deconvseg.integrations.exporting.export import export

__all__ = ["Contract", "Parity", "export", "read_contract"]
