"""Protocols by name, from the package, or from a file; and the checks of the names in them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deconvseg.catalog import PRESETS, Preset
from deconvseg.data import read_json_object
from deconvseg.errors import InputError, check_choice, suggest
from deconvseg.evaluation import list_metrics
from deconvseg.experiments.protocols.schema import Protocol, ProtocolDataset, ProtocolRow
from deconvseg.models import check_arguments, list_models
from deconvseg.planning import RECIPES
from deconvseg.system import does_not_exist

_ENDING = ".json"
# The folder of the package's own comparisons, which are in no paper.
_EVIDENCE = "evidence/"


def list_protocols() -> tuple[str, ...]:
    """Return the names of the papers' tables.

    Example:
        >>> from deconvseg.experiments import list_protocols
        >>> "dtc/table-1" in list_protocols()
        True

    """
    return tuple(sorted(name for name in _files() if not name.startswith(_EVIDENCE)))


def list_comparisons() -> tuple[str, ...]:
    """Return the names of the package's own comparisons of networks, which are in no paper.

    Example:
        >>> from deconvseg.experiments import list_comparisons
        >>> "evidence/layer" in list_comparisons()
        True

    """
    return tuple(sorted(name for name in _files() if name.startswith(_EVIDENCE)))


def read_protocol(protocol: str | PathLike[str]) -> Protocol:
    """Return the protocol of this name, or of a JSON file, with all names in it checked.

    Raises :class:`~deconvseg.errors.InputError` with the nearest name for an unknown protocol, key, network, variant,
    preset, recipe or metric.

    Example:
        >>> from deconvseg.experiments import read_protocol
        >>> [row.key for row in read_protocol("deconver/table-4").rows]
        ['deconver-r1', 'deconver-r2', 'deconver-r4']

    """
    files, path = _files(), Path(protocol)
    if str(protocol) in files:
        file = files[str(protocol)]
    elif path.is_file():
        file = path
    else:
        if path.exists():
            raise InputError(f"{path}: is a folder; give a table of the papers, or the file of a protocol")
        if path.suffix == _ENDING:
            raise InputError(f"{does_not_exist(path)}; give the file of a protocol")
        check_choice(str(protocol), sorted(files), "protocol")
        raise AssertionError
    found = parse_protocol(read_json_object(file), str(protocol))
    check_protocol(found, str(protocol))
    return found


def check_origin(protocol: str, *, own: bool) -> None:
    """Raise an error for a file or a comparison in place of a paper's table; with ``own``, for a paper's table."""
    named, path = protocol in list_protocols(), Path(protocol)
    if not own and protocol in list_comparisons():
        raise InputError(f"{protocol}: is in no paper: run 'deconvseg compare {protocol}'")
    if own and named and not path.is_file():
        raise InputError(
            f"{protocol}: is a table of the papers: make it by 'deconvseg reproduce {protocol}', or copy its protocol "
            "to a file and change it"
        )
    if not own and not named and path.is_file():
        raise InputError(f"{protocol}: is a file, not a table of the papers: run 'deconvseg compare {protocol}'")


def parse_protocol(tree: Any, source: str) -> Protocol:
    """Return the protocol of a JSON tree; :class:`~deconvseg.errors.InputError` names ``source`` and the place."""
    try:
        return Protocol.model_validate(tree)
    except ValidationError as error:
        # Unknown keys first, because a misspelt key also makes the correct key missing.
        first = min(error.errors(include_url=False), key=lambda entry: entry["type"] != "extra_forbidden")
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = _keys_at(first["loc"])
            hint = suggest(str(first["loc"][-1]), known)
            raise InputError(
                f"{source}: {place}: is not a key of a protocol: {hint}the schema of a protocol lists the keys"
            ) from None
        text = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {f'{place}: ' if place else ''}{text}") from None


def check_protocol(protocol: Protocol, source: str) -> None:
    """Raise :class:`~deconvseg.errors.InputError` for a name in a protocol that does not exist."""
    for dataset in protocol.datasets:
        if dataset.setting is None:
            check_choice(preset_name(dataset), PRESETS, f"{source}: preset of dataset {dataset.name!r}")
        for model in () if dataset.setting is None else dataset.setting.networks:
            check_choice(model, list_models(), f"{source}: setting of dataset {dataset.name!r}: model")
    if protocol.recipe is not None:
        check_choice(protocol.recipe, RECIPES, f"{source}: recipe")
    metrics = [metric.key for metric in list_metrics()]
    for column in protocol.columns:
        check_choice(column.metric, metrics, f"{source}: metric of column {column.key!r}")
    for row in protocol.rows:
        for dataset in protocol.datasets if not row.members else ():
            if row.datasets is None or dataset.name in row.datasets:
                find_network(row, preset_of(dataset), f"{source}: row {row.key!r}, {dataset.name}")


def preset_name(dataset: ProtocolDataset) -> str:
    """Return the name of the preset of a dataset."""
    return dataset.preset or dataset.name


def preset_of(dataset: ProtocolDataset) -> Preset:
    """Return the preset of a dataset; its setting in that form, under the default recipe, if it has one."""
    own = dataset.setting
    if own is None:
        return PRESETS[preset_name(dataset)]
    ends = {"in_channels": own.in_channels, "out_channels": own.out_channels, "spatial_dims": own.spatial_dims}
    return Preset(ends, own.networks, {}, own.patch_size, own.batch_size, epochs=None, recipe="default")


def find_network(row: ProtocolRow, preset: Preset, where: str) -> tuple[str, dict[str, Any]]:
    """Return the model of a row and all its arguments in a preset; :class:`InputError` for unknown names."""
    own: Mapping[str, Any] = {}
    if row.variant is not None:
        check_choice(row.variant, preset.variants, f"{where}: variant")
        model, own = preset.variants[row.variant].model, preset.variants[row.variant].arguments
    else:
        assert row.model is not None
        model = row.model
        check_choice(model, list_models(), f"{where}: model")
    arguments = {**preset.ends, **preset.networks.get(model, {}), **own, **row.arguments}
    try:
        check_arguments(model, arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return model, arguments


def _files() -> dict[str, Path]:
    root = Path(str(resources.files("deconvseg.catalog"))) / "protocols"
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in root.rglob(f"*{_ENDING}")}


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the part of a protocol in which an unknown key was found."""
    schema = Protocol.model_json_schema()
    part = schema
    for step in place[:-1]:
        if isinstance(step, str):
            part = part.get("properties", {}).get(step, {})
            part = part.get("items", part)
            if "$ref" in part:
                part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return list(part.get("properties", {}))
