"""Exports as models of a prediction: folders of ``deconvseg export``, computed by the engine of their format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.inference.engine import Engine
from deconvseg.inference.postprocessing import Postprocessing
from deconvseg.planning import Plan
from deconvseg.runs import Precision, Threshold, WeightsChoice

# The file that makes a folder an export.
CONTRACT = "contract.json"
# The floor that writes exports also reads them. It is higher, so it is imported by name when an export is given.
_READER = "deconvseg.integrations.exporting.reading"


@dataclass(frozen=True)
class Exported:
    """A model of an export: its engine, the plan that follows from its contract, and what the contract decides.

    ``mirrored`` says that the prediction is averaged over mirrorings; ``described`` is its entry in a prediction's
    record, and ``line`` the same in words.
    """

    path: Path
    engine: Engine
    plan: Plan
    threshold: Threshold | None
    postprocessing: Postprocessing
    mirrored: bool
    described: dict[str, Any]
    line: str


def is_export(model: object) -> bool:
    """Whether a model of a prediction is a folder with an export."""
    return isinstance(model, str | PathLike) and (Path(model) / CONTRACT).is_file()


def open_export(folder: str | PathLike[str], *, precision: Precision = "32") -> Exported:
    """Return the model of an export, which its engine computes in a precision.

    Raises :class:`~deconvseg.errors.InputError` for a damaged export, a format that is not read or a precision that its
    engine does not have, and :class:`~deconvseg.errors.MissingPackageError` without the engine's package.

    Example:
        >>> from deconvseg.inference import open_export
        >>> open_export("SCANS")
        Traceback (most recent call last):
        deconvseg.errors.InputError: SCANS/contract.json does not exist; give the folder that ...

    """
    opened: Exported = import_module(_READER).open_export(Path(folder), precision=precision)
    return opened


def check_export_options(exports: Sequence[Exported], *, device: str, weights: WeightsChoice | None) -> None:
    """Refuse options that an export has decided."""
    if not exports:
        return
    if weights is not None:
        raise InputError(
            f"`weights={weights!r}`: {exports[0].path} is an export, which holds one set of weights; omit it, or "
            "export the run with it"
        )
    if device != "cpu":
        raise InputError(f"`device={device!r}`: {exports[0].path} is an export, which is computed on the CPU")


def decide_mirroring(asked: bool | None, models: Sequence[object]) -> bool | None:
    """Return whether to average over mirrorings: as asked, or as the exports do; None: as each plan says.

    Raises :class:`~deconvseg.errors.InputError` where the models do not agree.
    """
    exports = [model for model in models if isinstance(model, Exported)]
    plain = next((export for export in exports if not export.mirrored), None)
    mirrored = next((export for export in exports if export.mirrored), None)
    if asked and plain is not None:
        raise InputError(f"`tta`: {plain.path} was exported without mirroring; export its run with `tta=True`")
    if mirrored is not None and not asked and (plain is not None or len(exports) < len(models)):
        raise InputError(
            f"{mirrored.path} was exported with mirroring and another model is not mirrored; predict them one by one, "
            "or all with `tta=True`"
        )
    return True if mirrored is not None else asked
