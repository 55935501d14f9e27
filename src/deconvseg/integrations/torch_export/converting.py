"""Networks as programs of ``torch.export``."""

from __future__ import annotations

import io

import torch

from deconvseg.integrations.exporting.tracing import Traced


def to_pt2(traced: Traced) -> bytes:
    """Return the content of a ``.pt2`` file, which ``torch.export.load`` reads, without paths of source files.

    Example:
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.torch_export import to_pt2
        >>> from deconvseg.models import UNet
        >>> len(to_pt2(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32)))) > 0
        True

    """
    for module in traced.program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    written = io.BytesIO()
    torch.export.save(traced.program, written)
    return written.getvalue()
