"""The configurations of a bundle: its network, transforms and workflows, from a contract and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deconvseg.data import WHITE
from deconvseg.errors import InputError
from deconvseg.integrations.exporting.contract import Contract, ExportedNetwork
from deconvseg.models import model_path
from deconvseg.planning import Plan

WEIGHTS = "models/model.pt"
_OURS = "deconvseg.integrations.monai"
# What MONAI evaluates, looks up or reads from another file where a text begins with it.
_MEANINGFUL = ("$", "@", "%")
_LARGEST = 65_535


def plain(text: str) -> str:
    """Return a name of the data, after a check that MONAI reads it as text."""
    if text.startswith(_MEANINGFUL):
        raise InputError(
            f"{text!r}: MONAI evaluates what begins with {', '.join(_MEANINGFUL)} in a bundle; rename this channel, "
            "class or dataset in the plan of the run"
        )
    return text


def inference_config(contract: Contract) -> dict[str, Any]:
    """Return ``configs/inference.json``, with the names that MONAI's workflows and MONAI Label look for."""
    volume = contract.image.dims == 3
    return {
        "imports": ["$import numpy"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz" if volume else ".png",
        "output_dtype": f"$numpy.{_output_type(contract)}",
        "output_postfix": "seg",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def(contract.networks),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(contract)},
        "dataset": {
            "_target_": "Dataset",
            "data": {
                "_target_": f"{_OURS}.list_cases",
                "folder": "@dataset_dir",
                "channels": [plain(channel.name) for channel in contract.image.channels],
            },
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": f"{_OURS}.EvenWindowInferer",
            "roi_size": list(contract.windows.size),
            "overlap": contract.windows.overlap,
            "mirrored_axes": list(contract.windows.mirrored_axes),
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(contract)},
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": f"$@bundle_root + '/{WEIGHTS}'",
            "load_dict": {"model": "@network"},
            "map_location": "@device",
        },
        "initialize": ["$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    }


def evaluation_config(contract: Contract, plan: Plan) -> dict[str, Any]:
    """Return ``configs/evaluate.json``, which adds true masks and MONAI's mean Dice to ``inference.json``."""
    return {
        "split": None,
        "dataset#data#labels": True,
        "dataset#data#split": "@split",
        "+preprocessing#transforms": [
            {
                "_target_": "LoadImaged",
                "keys": "label",
                "reader": {"_target_": f"{_OURS}.LabelFileReader"},
                "dtype": "$numpy.int64",
                "ensure_channel_first": True,
            }
        ],
        "+postprocessing#transforms": [
            {
                "_target_": f"{_OURS}.Structuresd",
                "keys": ["pred", "label"],
                "values": _true_values(contract, plan),
                "ignore": plan.labels.ignore,
            }
        ],
        "evaluator#key_val_metric": {
            "val_mean_dice": {
                "_target_": "MeanDice",
                "include_background": True,
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            }
        },
        "+handlers": [
            {
                "_target_": "MetricsSaver",
                "save_dir": "@output_dir",
                "metrics": ["val_mean_dice"],
                "metric_details": ["val_mean_dice"],
                "batch_transform": "$lambda batch: [case['image'].meta for case in batch]",
                "summary_ops": "*",
            }
        ],
    }


def network_def(networks: Sequence[ExportedNetwork]) -> dict[str, Any]:
    """Return the configuration that constructs the network, or several whose logits are concatenated."""
    parts = [{"_target_": model_path(network.name), **_plain_tree(network.config)} for network in networks]
    if len(parts) == 1:
        return parts[0]
    return {"_target_": "deconvseg.integrations.exporting.Members", "networks": parts}


def _plain_tree(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain(str(name)): _plain_tree(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def _preprocessing(contract: Contract) -> list[dict[str, Any]]:
    grid, image = contract.preprocessing, contract.image
    load = {
        "_target_": "LoadImaged",
        "keys": "image",
        "reader": {"_target_": f"{_OURS}.ImageFileReader", "channels_last": len(image.channels) > 1},
        "ensure_channel_first": True,
    }
    turn = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
    place = {
        "_target_": f"{_OURS}.NetworkGridd",
        "keys": "image",
        "channels": [_plain_tree(channel.model_dump(mode="json")) for channel in image.channels],
        "spacing": list(grid.spacing),
        "roi_size": list(contract.windows.size),
        "resize": None if grid.resize is None else list(grid.resize),
        "crop_margin": grid.crop_margin,
        "normalise_first": grid.normalise_first,
        "crop_to_nonzero": contract.windows.crop_to_nonzero,
    }
    return [load, *([turn] if image.dims == 3 else []), place]


def _postprocessing(contract: Contract) -> list[dict[str, Any]]:
    back = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": False,
        "to_tensor": True,
    }
    decide = {
        "_target_": f"{_OURS}.Decided",
        "keys": "pred",
        "decision": _plain_tree(contract.decision.model_dump(mode="json")),
        "labels": [label.value for label in contract.labels],
        "networks": contract.model.networks,
        "postprocessing": [_plain_tree(step.model_dump(mode="json")) for step in contract.postprocessing],
    }
    save = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_ext": "@output_ext",
        "output_dtype": "@output_dtype",
        "output_postfix": "@output_postfix",
        "resample": False,
        "separate_folder": False,
    }
    return [back, decide, save]


def _output_type(contract: Contract) -> str:
    """Return the NumPy type of mask files; NIfTI files of MONAI hold no 64-bit labels, and pictures no signed ones."""
    values = [label.value for label in contract.labels]
    low, high = min(values), max(values)
    if low >= 0 and high <= _LARGEST:
        return "uint8" if high < 256 else "uint16"
    if contract.image.dims == 2 or high >= 2**31 or low < -(2**31):
        wrong = low if low < 0 else high
        raise InputError(f"the label {wrong} does not fit the mask files that MONAI writes; renumber the labels")
    return "int32"


def _true_values(contract: Contract, plan: Plan) -> list[list[int]] | None:
    """Return the values of each structure in true masks; None if every value but 0 is the only class."""
    if plan.labels.foreground_only:
        return None
    further = dict(plan.labels.merged)
    only = plan.labels.values[-1]
    if len(plan.labels.values) == 2 and only in WHITE:  # the only class, whose white differs between files
        further.update(dict.fromkeys({*WHITE} - {only, plan.labels.ignore}, only))
    return [
        sorted({*part.values, *(value for value, other in further.items() if other in part.values)})
        for part in contract.structures
    ]
