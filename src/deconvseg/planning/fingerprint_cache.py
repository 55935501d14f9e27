"""Cache of fingerprints; its files may be deleted at any time."""

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from deconvseg._version import __version__
from deconvseg.data import Dataset, file_state
from deconvseg.errors import DeconvsegError
from deconvseg.system import write_text

_log = logging.getLogger("deconvseg")

# Increase it when the content of fingerprints changes between versions of the package.
_FORMAT = 5

Kept = TypeVar("Kept", bound=BaseModel)


def cache_folder() -> Path:
    """Return the cache folder of this package, in ``XDG_CACHE_HOME`` or the system's default."""
    home = Path.home()
    if "XDG_CACHE_HOME" in os.environ:
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    else:
        base = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return base / "deconvseg"


def fingerprint_key(dataset: Dataset) -> str:
    """Return a hash of the cases' files (names, sizes, times, inodes), the options of reading, and the version."""
    files = [file for case in dataset.cases for file in case.files]
    known = [
        _FORMAT,
        __version__,
        [dataset.foreground, dataset.channels_last, dataset.channel_names, sorted((dataset.label_names or {}).items())],
        [dataset.label_names is None, dataset.ignore_label],
        [sorted(dataset.merged_labels.items()), sorted(dataset.mask_colours.items())],
        [[part.value for part in case.masks] for case in dataset.cases if case.masks],
        [[os.path.realpath(file), *file_state(file)] for file in files],
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def read_cached(kind: type[Kept], folder: Path, key: str) -> Kept | None:
    """Return the cached value of a key, or None; for a damaged file a warning is logged."""
    file = _file(folder, key)
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        _log.warning("%s: the kept fingerprint cannot be used (%s); measuring again", file, type(error).__name__)
        return None


def write_cached(value: BaseModel, folder: Path, key: str) -> None:
    """Store a value under a key; if the folder cannot be written, log a warning."""
    try:
        write_text(_file(folder, key), value.model_dump_json())
    except DeconvsegError as error:
        _log.warning("the fingerprint is not kept for the next time: %s", error)


def _file(folder: Path, key: str) -> Path:
    return folder / "fingerprints" / f"{key}.json"
