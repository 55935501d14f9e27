"""The files that describe a finished conversion, and the lines about it on the console."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable

from deconvseg._version import __version__
from deconvseg.data.converting.case import Record, Setting
from deconvseg.data.converting.labels import WrittenLabels
from deconvseg.data.converting.parts import Parts
from deconvseg.data.converting.records import Journal
from deconvseg.data.converting.target import Contents
from deconvseg.data.dataset import Dataset, describe_excluded, list_names, report_problems
from deconvseg.data.recording import file_sha256
from deconvseg.progress import Console
from deconvseg.system import package_version, write_text
from deconvseg.text import number_of

_PACKAGES = ("numpy", "nibabel", "pillow", "tifffile")


def report_cases(dataset: Dataset, parts: Parts, console: Console) -> None:
    """Show what is known of the cases before they are read; `InputError` for one that cannot be used."""
    chosen = (*parts.training, *parts.testing)
    for line in report_problems(dataset, chosen):
        console.say(line)
    if excluded := describe_excluded(dataset):
        console.say(excluded)
    if parts.left_out:
        be = "is" if len(parts.left_out) == 1 else "are"
        console.say(f"{number_of(len(parts.left_out), 'case')} in no split {be} left out: {list_names(parts.left_out)}")
    groups = dataset.groups
    if len({groups[name] for name in parts.training}) < len(parts.training) and not parts.files.get(
        "splits_final.json"
    ):
        console.say(
            "several cases belong to one group (a subject), which other tools do not know: give folds that keep groups "
            "together as `splits`"
        )


def report_labels(dataset: Dataset, labels: WrittenLabels, console: Console) -> None:
    """Show which labels get another value, and which are dropped."""
    if labels.dropped:
        listed = list_names(f"{value} {name}" for value, name in labels.dropped.items())
        console.say(f"{dataset.root}: {listed} is in no region, and is written as background")
    if labels.changed:
        pairs = [
            f"{', '.join(map(str, found))} → {value}"
            for value, found in labels.sources.items()
            if found != (value,) and value
        ]
        console.say(f"labels get consecutive values: {list_names(pairs)}")


def report_copies(records: Iterable[Record], console: Console) -> None:
    """Show how many files are copied because no hard link to them could be made, with the reason."""
    reasons = [file.get("changes") for record in records for file in record["files"] if file["how"] == "copied"]
    if refused := [reason for reason in reasons if reason]:
        console.say(f"{number_of(len(refused), 'file')} copied: {refused[0]}")


def describe_conversion(setting: Setting, journal: Journal, dataset: Dataset, parts: Parts, title: str) -> None:
    """Write the splits, dataset.json and, at the end, the manifest."""
    folder, labels = setting.folder, setting.labels
    labelled = set(dataset.labelled_names)
    contents = Contents(
        name=title,
        source=dataset,
        channels=dataset.channel_names,
        labels=labels,
        training=parts.training,
        testing={name: name in labelled for name in parts.testing},
        ending=setting.ending,
        sheared=any(record["sheared"] for record in journal.cases.values()),
    )
    records = {**parts.files, "dataset.json": setting.target.describe(contents)}
    for name in {"splits.json", "splits_final.json"} - records.keys():
        (folder / name).unlink(missing_ok=True)
    for name, record in records.items():
        write_text(folder / name, json.dumps(record, indent=2) + "\n")
    journal.finish(
        {
            "versions": {
                "deconvseg": __version__,
                "python": platform.python_version(),
                **{package: package_version(package) for package in _PACKAGES},
            },
            "channels": list(dataset.channel_names),
            "file_ending": setting.ending,
            **labels.to_json(),
            "dropped": {str(value): name for value, name in labels.dropped.items()},
            "excluded": [str(exclusion) for exclusion in dataset.excluded],
            "left_out": list(parts.left_out),
            "files": {name: file_sha256(folder / name) for name in sorted(records)},
            "cases": [journal.cases[case.name] for case in dataset.cases],
        }
    )
