"""PyTorch's own exported programs: written here, and never read, because reading one unpickles."""

from deconvseg.integrations.torch_export.converting import to_pt2

__all__ = ["to_pt2"]
