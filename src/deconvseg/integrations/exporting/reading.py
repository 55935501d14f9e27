"""Exports read back as models of a prediction: the contract as a plan, the model in the engine of its format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import (
    CONTRACT,
    TORCH,
    Engine,
    Exported,
    Postprocessing,
    Predictor,
    TorchEngine,
    engine_precisions,
    tune,
)
from deconvseg.integrations.exporting.contract import Contract, ExportFormat, read_contract
from deconvseg.integrations.exporting.describing import make_contract
from deconvseg.planning import Plan
from deconvseg.planning.schema import plan_errors
from deconvseg.runs import Precision
from deconvseg.system import first_line
from deconvseg.text import number_of

# The parts of a contract that decide a mask.
_DECIDING = ("image", "preprocessing", "windows", "decision", "labels", "structures", "postprocessing")


def open_export(folder: Path, *, precision: Precision = "32") -> Exported:
    """Return the model of an export (:func:`deconvseg.inference.open_export`)."""
    contract = read_contract(folder)
    reader = _READERS.get(contract.model.format)
    if reader is None:
        raise InputError(
            f"{folder}: a model of {contract.model.format} is not read, because reading it unpickles; export to "
            "onnx or openvino, or predict with the run"
        )
    known = get_args(Precision) if reader.engine == TORCH else engine_precisions(reader.engine)
    if precision not in known:
        raise InputError(
            f"`precision={precision!r}`: {folder} is computed by {reader.engine} in {' or '.join(known)}; omit it"
        )
    engine = reader.read(folder / contract.model.file, contract, precision)
    engine.networks = contract.model.networks
    exported = Exported(
        path=folder,
        engine=engine,
        plan=plan_of(contract, str(folder / CONTRACT)),
        threshold=contract.decision.threshold,
        postprocessing=Postprocessing(steps=contract.postprocessing),
        mirrored=bool(contract.windows.mirrored_axes),
        described=_describe(folder, contract),
        line=_tell(folder, contract),
    )
    _check(exported, contract)
    return exported


def plan_of(contract: Contract, where: str) -> Plan:
    """Return the plan whose predictions are those of a contract; entries for the training have defaults."""
    regions = _regions_of(contract, where) if contract.decision.kind == "regions" else None
    grid, windows, first = contract.preprocessing, contract.windows, contract.networks[0] if contract.networks else None
    tree = {
        "dataset": "" if first is None else first.run,
        "spatial_dims": contract.image.dims,
        "spacing": grid.spacing,
        "patch_size": windows.size,
        "batch_size": 1,
        "channels": [channel.model_dump(mode="json") for channel in contract.image.channels],
        "labels": {
            "values": [label.value for label in contract.labels],
            "names": [label.name for label in contract.labels],
        },
        "regions": regions,
        "resize": grid.resize,
        "crop_margin": grid.crop_margin,
        "normalise_first": grid.normalise_first,
        "crop_to_nonzero": windows.crop_to_nonzero,
        "colours": {label.name: label.colour for label in contract.labels if label.colour is not None},
        "model": {"name": "" if first is None else first.name, "config": {} if first is None else first.config},
        "recipe": {"overlap": windows.overlap, "augmentation": {"flip_axes": windows.mirrored_axes}},
    }
    with plan_errors(where):
        return Plan.model_validate_json(json.dumps(tree), strict=True)


def _regions_of(contract: Contract, where: str) -> list[dict[str, Any]]:
    """Return the regions of a plan, in the order of their maps."""
    ids = {label.value: label.id for label in contract.labels}
    values = {part.name: part.values for part in contract.structures}
    regions = []
    for bound in sorted(contract.decision.bounds, key=lambda bound: bound.map):
        if bound.name not in values:
            raise InputError(f"{where}: decision.bounds: {bound.name!r} is not one of the structures; export again")
        if unknown := sorted(set(values[bound.name]) - set(ids)):
            raise InputError(
                f"{where}: structures: the value {unknown[0]} of {bound.name!r} is not that of a label; export again"
            )
        regions.append({"name": bound.name, "labels": [ids[v] for v in values[bound.name]], "paints": bound.id})
    return regions


def _check(exported: Exported, contract: Contract) -> None:
    """Refuse a contract that says something else than what the prediction would do, as one that was edited."""
    predictor = Predictor(
        [(exported.engine, exported.plan)],
        tta=exported.mirrored,
        threshold=exported.threshold,
        postprocessing=exported.postprocessing,
    )
    made = make_contract(predictor, contract.model)
    for name in _DECIDING:
        if getattr(made, name) != getattr(contract, name):
            raise InputError(
                f"{exported.path / CONTRACT}: {name}: is not what this version of deconvseg would write for its other "
                "entries; export the run again"
            )


def _describe(folder: Path, contract: Contract) -> dict[str, Any]:
    return {
        "export": str(folder),
        "model": contract.model.file,
        "sha256": contract.model.sha256,
        "networks": [network.model_dump(mode="json", exclude={"config"}) for network in contract.networks],
    }


def _tell(folder: Path, contract: Contract) -> str:
    runs = ", ".join(dict.fromkeys(network.run for network in contract.networks))
    bits = ", in 8 bits" if contract.model.precision == "int8" else ""
    return f"model: {folder / contract.model.file}, {number_of(contract.model.networks, 'network')} of {runs}{bits}"


@dataclass(frozen=True)
class _Reader:
    engine: str
    read: Callable[[Path, Contract, Precision], Engine]


def _sizes(contract: Contract) -> dict[str, Any]:
    model = contract.model
    return {"size_multiple": model.size_multiple} if model.any_size else {"fixed_size": contract.windows.size}


def _read_onnx(file: Path, contract: Contract, precision: Precision) -> Engine:
    from deconvseg.integrations.onnx import OnnxRuntimeEngine

    try:
        return OnnxRuntimeEngine(file.read_bytes(), **_sizes(contract))
    except DeconvsegError:
        raise
    except Exception as error:  # those of protobuf have no common type with others
        raise DeconvsegError(f"{file}: ONNX does not read it: {first_line(error)}") from error


def _read_openvino(file: Path, contract: Contract, precision: Precision) -> Engine:
    from deconvseg.integrations.openvino import OpenVinoEngine, read_model

    engine = OpenVinoEngine(
        read_model(file), channels=len(contract.image.channels), precision=precision, **_sizes(contract)
    )
    if contract.model.precision == "int8":
        engine.title += " (int8)"
    return engine


def _read_bundle(file: Path, contract: Contract, precision: Precision) -> Engine:
    """Return the network of a bundle, whose weights are read without unpickling objects (``weights_only``)."""
    from deconvseg.integrations.monai.bundle import from_checkpoint

    device = torch.device("cpu")
    network = tune(from_checkpoint(file.read_bytes(), contract.networks, str(file)), device)
    engine = TorchEngine(network, channels=len(contract.image.channels), device=device, precision=precision)
    for name, value in _sizes(contract).items():
        setattr(engine, name, value)
    return engine


_READERS: Mapping[ExportFormat, _Reader] = {
    "onnx": _Reader("onnxruntime", _read_onnx),
    "openvino": _Reader("openvino", _read_openvino),
    "monai-bundle": _Reader(TORCH, _read_bundle),
}
