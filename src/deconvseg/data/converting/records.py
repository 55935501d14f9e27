"""Records of a conversion: a journal while it is under way, and the manifest of a finished one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deconvseg.data.converting.case import Record
from deconvseg.data.json_files import parse_json, read_json_object
from deconvseg.errors import InputError
from deconvseg.system import write_text
from deconvseg.text import dump_json

MANIFEST = "conversion.json"
_JOURNAL = ".conversion.jsonl"
_FILE = re.compile(r"(images|labels)(Tr|Ts)/[^/\\\0]+")
_KEYS = ("to", "name", "dataset", "layout")


class Journal:
    """The records of the cases that a folder holds. A line is added for each case, so that a killed process loses one.

    ``identity`` says what is converted to what. Raises `InputError` for a folder that holds anything else.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.finished = (folder / MANIFEST).is_file()
        self.cases = _read(folder, self.identity)

    def start(self) -> None:
        """Write what is known into the journal, so that the manifest can be replaced."""
        lines = [self.identity, *self.cases.values()]
        write_text(self.folder / _JOURNAL, "".join(json.dumps(line) + "\n" for line in lines))

    def reopen(self) -> None:
        """Remove the files that say that the conversion is complete."""
        for name in (MANIFEST, "dataset.json"):
            (self.folder / name).unlink(missing_ok=True)
        self.finished = False

    def add(self, record: Record) -> None:
        """Add the record of a case, and remove the files of an earlier record that it does not name."""
        self._remove_files(self.cases.get(record["case"], {}), {entry["file"] for entry in record["files"]})
        self.cases[record["case"]] = record
        with (self.folder / _JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def drop(self, names: Iterable[str]) -> None:
        """Remove the files of these cases."""
        for name in names:
            self._remove_files(self.cases.pop(name), set())

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Replace the journal by the manifest."""
        write_text(self.folder / MANIFEST, dump_json({**self.identity, **manifest}) + "\n")
        self.close()

    def close(self) -> None:
        """Remove the journal of a conversion that was complete already."""
        (self.folder / _JOURNAL).unlink(missing_ok=True)

    def _remove_files(self, record: Mapping[str, Any], kept: set[str]) -> None:
        for entry in record.get("files", []):
            if entry["file"] not in kept:
                (self.folder / entry["file"]).unlink(missing_ok=True)


def _read(folder: Path, identity: Mapping[str, str]) -> dict[str, Record]:
    """Return the records by case, those of the journal last."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    manifest, journal = folder / MANIFEST, folder / _JOURNAL
    found: dict[str, Record] = {}
    heads = []
    if manifest.is_file():
        record = read_json_object(manifest)
        heads.append(record)
        found = _by_case(record.get("cases", []))
    if journal.is_file():
        lines = _lines(journal)
        heads += lines[:1]
        found |= _by_case(lines[1:])
    for head in heads:
        if {key: head.get(key) for key in _KEYS} != dict(identity):
            raise InputError(
                f"{folder} holds the conversion of {head.get('dataset')} ({head.get('layout')}) to {head.get('to')}; "
                "give another folder"
            )
    others = [path.name for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []
    if not heads and others:
        raise InputError(f"{folder} holds other files ({sorted(others)[0]}); give a new folder, or remove it")
    return found


def _by_case(records: Any) -> dict[str, Record]:
    """Return complete records by case; a case with another one is converted again."""
    if not isinstance(records, list):
        return {}
    return {record["case"]: record for record in records if _is_complete(record)}


def _is_complete(record: Any) -> bool:
    """Return whether a record is one of `convert_case`, whose files are in the folders of the conversion."""
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("case", "recipe")):
        return False
    for key in ("sources", "files"):
        entries = record.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return False
        if not all(isinstance(entry.get(part), str) for entry in entries for part in ("file", "sha256")):
            return False
    return all(_FILE.fullmatch(entry["file"]) for entry in record["files"])


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a journal that hold an object; the last one may be cut off."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = (parse_json(line, str(path)) for line in lines[:-1])
    return [record for record in records if isinstance(record, dict)]
