"""OpenVINO models with weights and activations of 8 bits, by NNCF's post-training quantisation."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.data import Image
from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.inference import Engine, Predictor
from deconvseg.planning import Plan
from deconvseg.system import first_line

if TYPE_CHECKING:
    import openvino

# The nonnegative deconvolution divides by sums of nearly zero, which 8 bits round to zero: with these operators in 8
# bits the masks of a Deconver are lost. Its products between channels, and other networks, do not need them.
_NOT_QUANTISED = ("GroupConvolution", "GroupConvolutionBackpropData", "Divide", "Multiply", "Add")


def quantise(model: openvino.Model, windows: Sequence[NDArray[np.float32]]) -> openvino.Model:
    """Return a model in int8, whose ranges of activations are those on ``windows`` (1, C, \\*S) of the same size.

    Convolutions and matrix products are computed in 8 bits; all other operators, and the deconvolution itself, as
    before. Take windows of the cases that the network was trained on, by :func:`calibration_windows`: some tens are
    enough. The masks differ from those of the network; score them on cases with known labels before they are used.
    Raises :class:`~deconvseg.errors.MissingPackageError` without the package of the extra ``int8``.

    Example:
        >>> import numpy
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.integrations.openvino import quantise, to_openvino
        >>> from deconvseg.models import UNet
        >>> model = to_openvino(trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32)))
        >>> windows = [numpy.random.rand(1, 1, 32, 32).astype("float32") for _ in range(4)]
        >>> lower = quantise(model, windows)  # doctest: +SKIP
        >>> sum(op.get_type_name() == "FakeQuantize" for op in lower.get_ops()) > 0  # doctest: +SKIP
        True

    """
    nncf = import_nncf()
    if not windows:
        raise InputError("`windows`: give windows of some training cases")
    fixed = model.clone()
    fixed.reshape(list(windows[0].shape))
    try:
        # NNCF prints bars of its own.
        with contextlib.redirect_stdout(io.StringIO()):
            lower: openvino.Model = nncf.quantize(
                fixed,
                nncf.Dataset(list(windows)),
                subset_size=len(windows),
                ignored_scope=nncf.IgnoredScope(types=list(_NOT_QUANTISED), validate=False),
            )
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeconvsegError(f"NNCF does not quantise this model: {first_line(error)}") from error
    return lower


def calibration_windows(plan: Plan, images: Sequence[Image], most: int = 32) -> list[NDArray[np.float32]]:
    """Return windows (1, C, \\*S) of images as a prediction by the plan cuts them, at most ``most``, evenly spaced.

    Example:
        >>> from deconvseg.data import read_image
        >>> from deconvseg.integrations.openvino import calibration_windows
        >>> from deconvseg.runs import Run
        >>> windows = calibration_windows(Run.open("RUN").plan, [read_image("image.png")])
        >>> windows[0].shape[:2]
        (1, 1)

    """
    recorder = _Recorder(plan)
    predictor = Predictor([(recorder, plan)])
    for image in images:
        predictor.segment(image, note=lambda text: None)
    found = recorder.windows
    chosen = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[place] for place in chosen]


class _Recorder(Engine):
    """Keeps the windows that it is given; its logits are zero."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.windows: list[NDArray[np.float32]] = []

    def logits(self, batch: Tensor) -> Tensor:
        self.windows.append(batch.numpy().copy())
        return torch.zeros(len(batch), self.plan.outputs, *batch.shape[2:])

    def fingerprint(self) -> Iterator[bytes]:
        yield b"recorder"


def import_nncf() -> Any:
    """Import NNCF; :class:`~deconvseg.errors.MissingPackageError` names the extra without it."""
    try:
        import nncf
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"int8 models are made with nncf, but {error.name} is not installed: pip install 'deconvseg[int8]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf
