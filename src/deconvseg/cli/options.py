"""Options that several commands share, and how their texts are read."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deconvseg.errors import InputError

Dataset = Annotated[
    Path,
    typer.Argument(help="nnU-Net raw, Medical Segmentation Decathlon, images/ with masks/ or labels/, BIDS, or a CSV."),
]
Splits = Annotated[
    Path | None,
    typer.Option(
        "--splits",
        help='JSON file {"train": [...], "val": [...], "test": [...]}, nnU-Net\'s splits_final.json, or a CSV with a '
        "column split.",
    ),
]
Split = Annotated[str | None, typer.Option("--split", help="Take only the cases of that split: train, val or test.")]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Take every label above zero as one class (instance maps).")
]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the plan, as recipe.learning_rate=1e-4."),
]
MaxTime = Annotated[
    str | None,
    typer.Option("--time", "--max-time", help="Plan for this time and stop each training after it, as 90s, 15m, 1.5h."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", help="Plan for this much memory, as 800M or 8G (of 1024); 90 % of what is free if not given."
    ),
]
Dims = Annotated[
    int | None,
    typer.Option(
        "--dims", min=2, max=3, help="2: cut volumes into 2D slices; 3: never do. Decided by the data if not given."
    ),
]
Recipe = Annotated[str, typer.Option("--recipe", help="default or paper.")]
Model = Annotated[str, typer.Option("--model", help="A network of 'deconvseg models'.")]
Preset = Annotated[str | None, typer.Option("--preset", help="A paper's network, as isles22: see 'deconvseg models'.")]
Variant = Annotated[
    str | None, typer.Option("--variant", help="One of a preset's networks, by its name in 'deconvseg models'.")
]
Plan = Annotated[Path | None, typer.Option("--plan", help="Use this plan.json instead of making one.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, 32, bf16 or 16.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Keep preprocessed cases in this folder, which runs may share.")
]
Devices = Annotated[
    int | None,
    typer.Option("--devices", min=1, help="Train on as many devices of each machine, a process on each."),
]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="ddp (if not given): every device holds the network; fsdp: a part of it."),
]
Fold = Annotated[str, typer.Option("--fold", help="Validation fold (0, 1, …), or all to train on every training case.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Everything random follows from it.")]
SplitFold = Annotated[
    int | None,
    typer.Option("--fold", min=0, help="Which entry of a splits file that is a list (nnU-Net's); 0 if not given."),
]

CaseMemory = Annotated[
    str | None,
    typer.Option("--memory", help="What a case may take beside the loaded model, as 4G or 800M."),
]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MULTIPLES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_seconds(text: str | None) -> float | None:
    """Read a time such as ``90s``, ``15m`` or ``1.5h``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InputError(f"--time {text}: give a number and s, m or h, as 90s, 15m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def parse_bytes(text: str | None) -> int | None:
    """Read a number of bytes such as ``800M``, ``8G`` or ``1.5T`` (multiples of 1024)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise InputError(f"--memory {text}: give a number and K, M, G or T, as 800M or 8G")
    return int(float(match[1]) * _MULTIPLES[match[2].upper()])


def parse_values(texts: list[str] | None) -> dict[str, Any]:
    """Read ``key=value`` texts; a value is JSON (numbers, true, lists), or else a string."""
    values: dict[str, Any] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set {text}: give KEY=VALUE, as --set batch_size=2")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    return values


def parse_split(text: str | None) -> Literal["train", "val", "test"] | None:
    """Read the name of a split."""
    names: dict[str | None, Literal["train", "val", "test"] | None] = {
        None: None,
        "train": "train",
        "val": "val",
        "test": "test",
    }
    if text not in names:
        raise InputError(f"--split {text}: choose train, val or test")
    return names[text]


def parse_fold(text: str) -> int | str:
    """Read a fold's number, or ``all``."""
    if text == "all":
        return text
    if not text.isdigit():
        raise InputError(f"--fold {text}: give a number from 0, or all")
    return int(text)
