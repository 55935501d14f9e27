"""Open packed models: checked files of a zip, in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.planning import cache_folder
from deconvseg.runs.package import LARGEST_TEXT, PACKAGE, Package, parse_package
from deconvseg.system import make_folder, one_line, unfinished, writing_error

SUFFIX = ".dseg.zip"
_REMEDY = "copy the file again, or pack the run again (`deconvseg pack`)"
_MOST_FILES = 10_000
_BLOCK = 2**20
_ENCRYPTED = 0x1
# What a local header takes at least in addition to the name.
_HEADER = 30


def is_packed(path: Path) -> bool:
    """Whether a path is a packed model, by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


def unpack(path: Path) -> Path:
    """Return the folder of a packed model in the user's cache, which has exactly the files of its ``package.json``.

    Every file is compared with its SHA-256, in the packed model and in the cache, each time. Files are read in blocks.
    Raises :class:`~deconvseg.errors.InputError` for a damaged file, and for one that is not as `deconvseg pack` writes
    it: names that leave the folder, links, repeated or overlapping entries, compressed ones, sizes other than declared.
    """
    with _opened(path) as packed:
        entries, text, package = _read(path, packed)
        folder = cache_folder() / "models" / hashlib.sha256(text).hexdigest()[:32] / package.name
        if folder.is_dir() and not any(package.differing(folder)):
            for name in package.files:
                _copy(path, packed, entries[name], package, None)
            return folder
        _check_space(path, package, make_folder(folder.parent))
        return _unpack_into(path, packed, entries, package, folder)


def read_packed(path: Path) -> Package:
    """Return the ``package.json`` of a packed model, whose files are listed and not read."""
    with _opened(path) as packed:
        return _read(path, packed)[2]


def _read(path: Path, packed: ZipFile) -> tuple[dict[str, ZipInfo], bytes, Package]:
    """Return the checked entries of a packed model, and its ``package.json`` as it is and parsed."""
    entries = _check_entries(path, packed.infolist())
    text = packed.read(entries[PACKAGE])
    package = parse_package(text, f"{path}: {PACKAGE}", _REMEDY)
    _check_files(path, entries, package)
    return entries, text, package


@contextmanager
def _opened(path: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(path) as packed:
            yield packed
    except DeconvsegError:
        raise
    except (BadZipFile, NotImplementedError, EOFError, ValueError, struct.error) as error:
        raise InputError(f"{path}: is no intact zip file ({one_line(error)}); {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def _check_entries(path: Path, listed: Sequence[ZipInfo]) -> dict[str, ZipInfo]:
    """Return the entries of a zip by name; refuse what `deconvseg pack` does not write."""
    if len(listed) > _MOST_FILES:
        raise InputError(f"{path}: holds {len(listed):,} files, more than a model has; {_REMEDY}")
    end = 0
    for entry in sorted(listed, key=lambda entry: entry.header_offset):
        wrong = _describe_wrong(entry)
        if wrong is None and entry.header_offset < end:
            wrong = "overlaps another entry"
        if wrong is not None:
            raise InputError(f"{path}: {entry.filename!r} {wrong}, so nothing of it was unpacked; {_REMEDY}")
        end = entry.header_offset + _HEADER + len(entry.filename) + entry.file_size
    entries = {entry.filename: entry for entry in listed}
    if len({name.lower() for name in entries}) < len(listed):
        raise InputError(f"{path}: holds a name twice, so nothing of it was unpacked; {_REMEDY}")
    if PACKAGE not in entries:
        raise InputError(f"{path}: has no {PACKAGE}, so it is no packed model; make one with `deconvseg pack`")
    if entries[PACKAGE].file_size > LARGEST_TEXT:
        raise InputError(f"{path}: its {PACKAGE} is too large ({entries[PACKAGE].file_size:,} bytes); {_REMEDY}")
    return entries


def _describe_wrong(entry: ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        return "is a link or another special file" if not entry.is_dir() else "is a folder"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed"
    return None


def _check_files(path: Path, entries: dict[str, ZipInfo], package: Package) -> None:
    """Refuse other files than those of the package, whose names are known to stay in their folder."""
    found, expected = set(entries) - {PACKAGE}, set(package.files)
    if surplus := sorted(found - expected):
        raise InputError(f"{path}: {surplus[0]!r} is not listed in its {PACKAGE}, so nothing was unpacked; {_REMEDY}")
    if missing := sorted(expected - found):
        raise InputError(f"{path}: {missing[0]!r} is missing, so nothing was unpacked; {_REMEDY}")
    for name, file in package.files.items():
        if entries[name].file_size != file.bytes:
            raise InputError(
                f"{path}: {name!r} has {entries[name].file_size:,} bytes where {PACKAGE} says {file.bytes:,}; {_REMEDY}"
            )


def _check_space(path: Path, package: Package, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if package.bytes > free:
        raise DeconvsegError(
            f"{path}: takes {package.bytes:,} bytes in {folder}, where {free:,} are free; free some space, or set "
            "XDG_CACHE_HOME to another disk"
        )


def _unpack_into(path: Path, packed: ZipFile, entries: dict[str, ZipInfo], package: Package, folder: Path) -> Path:
    """Unpack to a temporary folder that is renamed when it is complete."""
    temporary, changed = unfinished(folder.parent), unfinished(folder.parent)
    try:
        for name in package.files:
            _copy(path, packed, entries[name], package, temporary / name)
        (temporary / PACKAGE).write_bytes(packed.read(entries[PACKAGE]))
        if folder.exists():
            # A file of it is not what was unpacked.
            folder.rename(changed)
        temporary.rename(folder)
    except OSError as error:
        # Another process may have unpacked the same model in the meantime.
        if not folder.is_dir() or any(package.differing(folder)):
            raise writing_error(folder, error) from error
    finally:
        for left in (temporary, changed):
            shutil.rmtree(left, ignore_errors=True)
    return folder


def _copy(path: Path, packed: ZipFile, entry: ZipInfo, package: Package, target: Path | None) -> None:
    """Copy an entry to a new file, or to nowhere, and compare it with its hash."""
    digest = hashlib.sha256()
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(entry) as source:
        stream = None if target is None else target.open("xb")
        try:
            while block := source.read(_BLOCK):
                digest.update(block)
                if stream is not None:
                    stream.write(block)
        finally:
            if stream is not None:
                stream.close()
    if digest.hexdigest() != package.files[entry.filename].sha256:
        raise InputError(
            f"{path}: the SHA-256 of {entry.filename!r} is not that of its {PACKAGE}; the file is damaged: {_REMEDY}"
        )
