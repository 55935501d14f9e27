"""The form in which exported programs sample: corners that are gathered, or ``grid_sample``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from deconvseg.errors import check_choice

Form = Literal["gather", "grid_sample"]
FORMS: tuple[Form, ...] = ("gather", "grid_sample")

_form: Form = "gather"


@contextmanager
def exported_sampling(form: Form) -> Iterator[None]:
    """Set the form in which :func:`~deconvseg.ops.deformable_upsample` is exported within the context.

    ``"grid_sample"`` becomes ONNX's GridSample, a single operator; ``"gather"``, the default, is for runtimes whose
    GridSample takes no volumes. Both give the same values up to rounding.

    Example:
        >>> import torch
        >>> from deconvseg.nn import DTC
        >>> from deconvseg.ops import exported_sampling
        >>> with torch.no_grad(), exported_sampling("grid_sample"):
        ...     program = torch.export.export(DTC(4, 2, (2, 2), 2).eval(), (torch.rand(1, 4, 8, 8),))
        >>> any("grid_sampler" in str(node.target) for node in program.graph.nodes)
        True

    """
    global _form
    check_choice(form, FORMS, "form")
    before, _form = _form, form
    try:
        yield
    finally:
        _form = before


def current_form() -> Form:
    """Return the form of sampling that is set now."""
    return _form
