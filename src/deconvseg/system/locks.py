"""Locks of folders: records of the writing processes, kept in the folder itself, so that network disks work too.

The lock of a folder is its subfolder ``.lock``, with one JSON record for each process that holds it. A record is
dropped once its process has ended. Only one process at a time compares and adds records: the one that has renamed its
own folder to ``.lock/gate``. The rename is atomic and fails if a non-empty ``gate`` exists.
"""

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.system.files import make_folder, writing_error
from deconvseg.system.identity import ProcessIdentity

LOCK = ".lock"
_GATE = "gate"
_RECORDS = "owner-*.json"
# Comparing and adding a record takes milliseconds locally, and longer on a slow network disk.
_GATE_PATIENCE = 30.0
_POLL = 0.02


class LockedError(InputError):
    """Another process works in this folder."""


@dataclass(frozen=True)
class _Record:
    """A record in a lock: ``items`` are the names that its process works on, None for the whole folder."""

    file: Path
    owner: ProcessIdentity | None
    items: frozenset[str] | None

    @property
    def stale(self) -> bool:
        return self.owner is not None and self.owner.ended

    def conflicts(self, items: frozenset[str] | None) -> bool:
        return self.items is None or items is None or bool(self.items & items)


@contextmanager
def hold(
    folder: str | PathLike[str],
    items: Collection[str] | None = None,
    *,
    patience: float = 0.0,
    alone: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Lock a folder, or ``items`` (file names) in it, for this process while the block runs.

    With an empty ``items`` the lock only keeps other processes from locking the whole folder. If another process, or
    another thread of this one, holds the lock for more than ``patience`` seconds, :class:`LockedError` is raised;
    records of ended processes are ignored. A missing folder is created, and removed again if it stays empty. ``alone``
    is called first if no other process holds the folder or an item of it; no other process can obtain a lock during the
    call.
    """
    folder, wanted = Path(folder), None if items is None else frozenset(items)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    owner = os.getpid()
    try:
        record = _register(folder, wanted, time.monotonic() + patience, alone)
        try:
            yield
        finally:
            # A forked copy of this process does not hold the lock.
            if os.getpid() == owner:
                _drop(record)
    finally:
        if os.getpid() == owner:
            with suppress(OSError):
                for place in made:
                    place.rmdir()


def _register(folder: Path, items: frozenset[str] | None, deadline: float, alone: Callable[[], object]) -> Path:
    """Add a record to the folder's lock once no other record conflicts with it, and return its path."""
    lock = folder / LOCK
    while True:
        with _gate(folder):
            _tidy(lock)
            others = _records(lock)
            blocking = [record for record in others if record.conflicts(items)]
            if not others:
                alone()
            if not blocking:
                record = lock / f"owner-{secrets.token_hex(8)}.json"
                _write_record(record, items)
                return record
        if time.monotonic() > deadline:
            raise _locked(folder, blocking[0], items)
        time.sleep(_POLL)


def _records(lock: Path) -> list[_Record]:
    """Return the records of a lock whose processes may be running, and remove the others."""
    found = _read_records(lock)
    for record in found:
        if record.stale:
            record.file.unlink(missing_ok=True)
    return [record for record in found if not record.stale]


def _read_records(folder: Path) -> list[_Record]:
    """Return the records in a folder, without those that are removed in the meantime."""
    found = (_read_record(file) for file in sorted(folder.glob(_RECORDS)))
    return [record for record in found if record is not None]


def _read_record(file: Path) -> _Record | None:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        items = tree.get("items")
        return _Record(file, ProcessIdentity.from_json(tree), None if items is None else frozenset(map(str, items)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError):
        return _Record(file, None, None)


def _write_record(file: Path, items: frozenset[str] | None) -> None:
    tree = {**ProcessIdentity.own().to_json(), "items": None if items is None else sorted(items)}
    try:
        with file.open("x", encoding="utf-8") as opened:
            json.dump(tree, opened)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise writing_error(file, error) from error


def _tidy(lock: Path) -> None:
    """Remove the folders of processes that were killed while they waited at the gate."""
    for left in lock.glob(f"{_GATE}-*"):
        # Waiting processes create and remove such folders all the time.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _GATE_PATIENCE and not _records(left):
                shutil.rmtree(left, ignore_errors=True)


def _drop(record: Path) -> None:
    with suppress(OSError):
        record.unlink(missing_ok=True)
        # Fails, as intended, if another process holds the lock too.
        record.parent.rmdir()


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Let only one process at a time read and change the records of a lock."""
    gate = folder / LOCK / _GATE
    deadline = time.monotonic() + _GATE_PATIENCE
    while not (record := _pass(folder, gate)):
        if time.monotonic() > deadline:
            inside = _read_records(gate)
            raise _locked(folder, inside[0] if inside else _Record(gate, None, None), None)
        time.sleep(_POLL)
    try:
        yield
    finally:
        _drop(record)
        # Fails, as intended, while the lock contains records.
        with suppress(OSError):
            gate.parent.rmdir()


def _pass(folder: Path, gate: Path) -> Path | None:
    """Rename a folder with this process's record to the gate and return the record; None if the gate is taken."""
    own = folder / LOCK / f"{_GATE}-{secrets.token_hex(8)}"
    name = f"owner-{secrets.token_hex(8)}.json"
    try:
        own.mkdir(parents=True)
        _write_record(own / name, None)
        _records(gate)
        with suppress(OSError):
            gate.rmdir()
        own.rename(gate)
    except FileNotFoundError:
        # The last holder has just removed the lock.
        return None
    except OSError as error:
        if not gate.exists() and not _is_taken(error):
            raise writing_error(gate.parent, error) from error
        return None
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return gate / name


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def _locked(folder: Path, record: _Record, items: frozenset[str] | None) -> LockedError:
    shared = sorted(record.items & items) if record.items is not None and items is not None else []
    what = f"{folder}: {f'{shared[0]} is' if shared else 'is'}"
    if record.owner is None:
        return LockedError(
            f"{what} locked by {record.file}, which cannot be read; remove that file if no process works in the folder"
        )
    if record.owner.here:
        return LockedError(f"{what} in use by {record.owner}; wait until it ends, or choose another output")
    return LockedError(
        f"{what} in use by {record.owner}; wait until it ends, or choose another output; if it has ended, remove "
        f"{record.file}"
    )
