"""Networks as OpenVINO models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvseg.errors import DeconvsegError, MissingPackageError
from deconvseg.integrations.exporting.tracing import Traced, quiet
from deconvseg.system import FOREIGN_ERRORS, first_line

if TYPE_CHECKING:
    import openvino


def to_openvino(traced: Traced) -> openvino.Model:
    """Return a traced network as an OpenVINO model with the input ``image`` and the output ``logits``.

    Trace with ``sampling="gather"``: OpenVINO's GridSample takes images only. Weights are float32. Raises
    :class:`~deconvseg.errors.MissingPackageError` without the package of the extra ``openvino``, and
    :class:`~deconvseg.errors.DeconvsegError` for a program that OpenVINO does not convert.

    Example:
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.openvino import to_openvino
        >>> from deconvseg.models import UNet
        >>> model = to_openvino(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32)))
        >>> [each.get_any_name() for each in (*model.inputs, *model.outputs)]
        ['image', 'logits']

    """
    openvino = import_openvino()
    try:
        with quiet():
            model = openvino.convert_model(traced.program)
    except FOREIGN_ERRORS as error:
        raise DeconvsegError(f"OpenVINO does not convert this network: {first_line(error)}") from error
    model.input(0).tensor.set_names({"image"})
    model.output(0).tensor.set_names({"logits"})
    return model


def read_model(file: Path) -> openvino.Model:
    """Return the model of an ``.xml`` file with its weights in the ``.bin`` file beside it."""
    try:
        model: openvino.Model = import_openvino().Core().read_model(file)
    except FOREIGN_ERRORS as error:
        raise DeconvsegError(f"{file}: OpenVINO does not read it: {first_line(error)}") from error
    return model


def import_openvino() -> Any:
    """Import OpenVINO; :class:`~deconvseg.errors.MissingPackageError` names the extra without it."""
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "OpenVINO's models need openvino, which is not installed: pip install 'deconvseg[openvino]'"
        ) from error
    return openvino
