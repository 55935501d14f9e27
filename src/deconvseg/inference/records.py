"""Records of predictions: the result of a call, and the file next to the masks."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from deconvseg.data import Case
from deconvseg.errors import DeconvsegError
from deconvseg.inference.doubting import CaseDoubt
from deconvseg.runs import PREDICTIONS, Precision, Threshold, file_sha256

_log = logging.getLogger("deconvseg")

# The same warning is logged for this many cases; the others are counted at the end.
_MOST_ALIKE = 3


@dataclass
class Prediction:
    """The written masks, the kept masks, the failures with their reasons, and the warnings of a prediction.

    ``models`` describes each run and its weights, ``computing`` the device, precision and kernels. ``warnings`` concern
    all cases, ``remarks`` a single case, by its name; ``empty`` are the written masks that hold only background.
    ``threshold`` is the threshold of the masks, None for the largest probability; ``doubts`` has the doubt of each
    case by name.
    """

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    empty: list[Path] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    threshold: Threshold | None = None
    doubts: dict[str, CaseDoubt] = field(default_factory=dict)
    computing: dict[str, Any] = field(default_factory=dict)
    _alike: Counter[str] = field(default_factory=Counter, repr=False)

    def warn(self, text: str) -> None:
        """Note and log a warning about all cases."""
        self.warnings.append(text)
        _log.warning("%s", text)

    def remark(self, name: str, text: str) -> None:
        """Note a warning about one case once, and log it unless several cases had the same warning."""
        known = self.remarks.setdefault(name, [])
        if text not in known:
            known.append(text)
            self._alike[text] += 1
            if self._alike[text] <= _MOST_ALIKE:
                _log.warning("%s: %s", name, text)

    def log_alike(self) -> None:
        """Log how many more cases had the same warnings as those that were logged."""
        for text, count in self._alike.items():
            if count > _MOST_ALIKE:
                _log.warning("%d more cases: %s", count - _MOST_ALIKE, text)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries; ``warnings`` are those of all cases and of each, in words."""
        of_cases = [f"{name}: {text}" for name, texts in self.remarks.items() for text in texts]
        return {
            "written": [str(p) for p in self.written],
            "skipped": [str(p) for p in self.skipped],
            "problems": self.problems,
            "warnings": [*self.warnings, *of_cases],
            "case_warnings": self.remarks,
            "empty": [str(p) for p in self.empty],
            "models": self.models,
            "threshold": self.threshold,
            "doubt": {name: doubt.to_json() for name, doubt in self.doubts.items()},
            "computing": self.computing,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Prediction:
        """Return the object from the result of :meth:`to_json`."""
        remarks = {name: list(texts) for name, texts in tree["case_warnings"].items()}
        of_all = len(tree["warnings"]) - sum(map(len, remarks.values()))
        written, skipped, empty = ([Path(path) for path in tree[key]] for key in ("written", "skipped", "empty"))
        problems, warnings = list(tree["problems"]), list(tree["warnings"][:of_all])
        doubts = {name: CaseDoubt.from_json(entry) for name, entry in tree["doubt"].items()}
        return cls(
            *(written, skipped, problems, warnings, remarks, empty, list(tree["models"]), tree["threshold"]),
            doubts={name: doubt for name, doubt in doubts.items() if doubt is not None},
            computing=dict(tree.get("computing", {})),
        )

    def add(self, other: Prediction) -> None:
        """Add the result of another part of the cases; warnings about all cases are kept once."""
        for key in ("written", "skipped", "empty"):
            getattr(self, key).extend(getattr(other, key))
        for key in ("problems", "warnings", "models"):
            own = getattr(self, key)
            own.extend(entry for entry in getattr(other, key) if entry not in own)
        self.remarks.update(other.remarks)
        self.doubts.update(other.doubts)
        self.threshold = other.threshold if self.threshold is None else self.threshold
        self.computing = self.computing or other.computing


@dataclass(frozen=True)
class FileState:
    """A file by its name, size, time (ns) and SHA-256; -1 and an empty hash for a file that cannot be read."""

    name: str
    size: int
    time: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file."""
        try:
            state = path.stat()
            return cls(path.name, state.st_size, state.st_mtime_ns, file_sha256(path))
        except OSError:
            return cls(path.name, -1, -1, "")

    def holds_for(self, path: Path) -> bool:
        """Whether a file is unchanged: by its size and time or, if these differ, by its content."""
        try:
            state = path.stat()
        except OSError:
            return False
        same = (state.st_size, state.st_mtime_ns) == (self.size, self.time)
        return self.name in ("", path.name) and (
            same or (state.st_size == self.size and file_sha256(path) == self.sha256)
        )


@dataclass(frozen=True)
class Record:
    """The origin of a mask: its image files, the predictor, and the SHA-256 of its own file.

    ``made_by`` is the identity of the predictor: its weights, plans and options. ``threshold`` is that of
    the mask, None for the largest probability; ``doubt`` is missing in records of earlier versions. ``probabilities``
    and ``regions`` are true if their files were written with the mask. ``precision`` is that of PyTorch's networks.
    """

    mask: str
    sha256: str
    made_by: str
    images: tuple[FileState, ...]
    probabilities: bool
    warnings: tuple[str, ...] = ()
    threshold: Threshold | None = None
    doubt: CaseDoubt | None = None
    regions: bool = False
    precision: Precision = "32"


class Records:
    """The file of records in a folder of masks: one line of JSON per mask; the last line of a mask is valid.

    ``runs`` describes the runs that make the masks, ``labels`` names the values of the masks; both are part of each
    line.
    """

    def __init__(
        self, folder: Path, runs: Sequence[Mapping[str, Any]] = (), labels: Mapping[int, str] | None = None
    ) -> None:
        self.file = folder / PREDICTIONS
        self.runs = runs
        self.labels = {str(value): name for value, name in (labels or {}).items()}
        self._known = {record.mask: record for record in _read(self.file)}

    def __getitem__(self, mask: Path) -> Record | None:
        return self._known.get(self.name_of(mask))

    def all(self) -> list[Record]:
        """Return the last record of each mask."""
        return list(self._known.values())

    def name_of(self, mask: Path) -> str:
        """Return the name of a mask in the folder or in one below it."""
        return mask.relative_to(self.file.parent).as_posix()

    def add(self, record: Record) -> None:
        """Append a record; several processes may write into one folder."""
        doubt = None if record.doubt is None else record.doubt.to_json()
        further = {"doubt": doubt, "labels": self.labels, "runs": [dict(run) for run in self.runs]}
        line = json.dumps({**asdict(record), **further}) + "\n"
        try:
            # In one system call, so that the lines of several processes do not mix.
            with self.file.open("ab+", buffering=0) as stream:
                stream.write((line if _ends_line(stream) else f"\n{line}").encode())
        except OSError as error:
            raise DeconvsegError(
                f"cannot write {self.file}: {error.strerror or error}; without it `skip_existing=True` does not know "
                "its masks"
            ) from error
        self._known[record.mask] = record


def _ends_line(stream: IO[bytes]) -> bool:
    """Whether a file is empty or ends with a complete line: a killed process may leave a part of one."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def states_of(case: Case) -> tuple[FileState, ...]:
    """Return the state of each file that the image of a case is read from."""
    return tuple(map(FileState.of, image_files(case)))


def image_files(case: Case) -> tuple[Path, ...]:
    """Return the files that the image of a case is read from, including the data files of a detached header."""
    return replace(case, label=None).files


def _read(file: Path) -> Iterable[Record]:
    try:
        lines: Sequence[bytes] = file.read_bytes().splitlines()
    except OSError:
        return []
    return [record for record in map(_parse, lines) if record is not None]


def _parse(line: bytes) -> Record | None:
    """Return a line's record; None for a damaged line, such as the last one of a killed process."""
    try:
        tree = json.loads(line)
        images = tuple(
            FileState(str(file["name"]), int(file["size"]), int(file["time"]), str(file["sha256"]))
            for file in tree["images"]
        )
        mask, digest, made_by = (str(tree[key]) for key in ("mask", "sha256", "made_by"))
        return Record(
            *(mask, digest, made_by, images, bool(tree["probabilities"]), tuple(map(str, tree["warnings"]))),
            threshold=tree.get("threshold"),
            doubt=CaseDoubt.from_json(tree.get("doubt")),
            regions=bool(tree.get("regions", False)),
            precision="bf16" if tree.get("precision") == "bf16" else "32",
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
