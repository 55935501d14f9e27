"""Locks of folders: records of the processes that write there, kept in the folder itself; network disks work too.

A folder's lock is the folder ``.lock`` in it, with a JSON record for each process that holds it. A record is dropped
once its process has ended. Records are compared and added by one process at a time: it has put its own folder in
the place of ``.lock/gate``, which the system does in one step, and only where none with content is there.
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
# Comparing and adding a record takes milliseconds; a slow network disk may need longer.
_GATE_PATIENCE = 30.0
_POLL = 0.02


class LockedError(InputError):
    """Another process works in this folder."""


@dataclass(frozen=True)
class _Record:
    """A record in a lock: ``items`` are what its process works on, None for the whole folder."""

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
    """Hold a folder, or ``items`` (names of files) in it, for this process as long as the block lasts.

    With an empty ``items`` the block only keeps others from holding the whole folder. What is held by another process,
    or by another thread of this one, is a :class:`LockedError` after ``patience`` seconds; a record whose process has
    ended, however it did, does not count. The folder is made where it is missing, and goes again where it stays empty.
    ``alone`` is called first where no other process holds the folder or an item in it; none can begin to meanwhile.
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
            # A copy of this process that a fork has made does not hold the folder.
            if os.getpid() == owner:
                _drop(record)
    finally:
        if os.getpid() == owner:
            with suppress(OSError):
                for place in made:
                    place.rmdir()


def _register(folder: Path, items: frozenset[str] | None, deadline: float, alone: Callable[[], object]) -> Path:
    """Add a record to the folder's lock, once no other conflicts with it, and return its file."""
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
    """Return the records of a lock whose processes may be at work, and remove the others."""
    found = _read_records(lock)
    for record in found:
        if record.stale:
            record.file.unlink(missing_ok=True)
    return [record for record in found if not record.stale]


def _read_records(folder: Path) -> list[_Record]:
    """Return the records in a folder; those that are removed meanwhile are left out."""
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
    """Remove what processes left that were killed on their way through the gate."""
    for left in lock.glob(f"{_GATE}-*"):
        # Those of processes that wait at the gate come and go.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _GATE_PATIENCE and not _records(left):
                shutil.rmtree(left, ignore_errors=True)


def _drop(record: Path) -> None:
    with suppress(OSError):
        record.unlink(missing_ok=True)
        # Where another process holds the folder too, this fails, as it should.
        record.parent.rmdir()


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Let one process at a time look at the records of a lock and change them."""
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
        # Not empty while there are records.
        with suppress(OSError):
            gate.parent.rmdir()


def _pass(folder: Path, gate: Path) -> Path | None:
    """Put a folder with this process's record in the gate's place; None where another process is there."""
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
        # The lock was removed by its last holder.
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
