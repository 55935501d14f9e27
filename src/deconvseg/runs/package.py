"""A packaged model: the files of a run or of a cross-validation that may leave the computer, with their hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deconvseg.data import file_sha256
from deconvseg.data.json_files import parse_json
from deconvseg.errors import InputError

PACKAGE = "package.json"
# JSON of more bytes than this is no part of a model.
LARGEST_TEXT = 64 * 2**20
StoredType: TypeAlias = Literal["float32", "bfloat16", "float16"]
_NAMES = (
    r"(?:plan|config|splits|splits_final|manifest|precision|threshold|postprocessing|operating_points)\.json"
    r"|metrics\.jsonl|weights(?:_best)?\.safetensors"
)
_FILE = re.compile(rf"(?:fold_\d{{1,3}}/)?(?:{_NAMES})")
_Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PackagedFile(_Part):
    """The size of a file and its SHA-256."""

    bytes: int = Field(ge=0)
    sha256: _Digest


class Score(_Part):
    """The mean of a metric over cases, of one class or of the mean over classes, with its 95 % interval."""

    metric: str
    structure: str
    mean: float
    ci95: tuple[float, float] | None = None
    cases: int


class Package(_Part):
    """``package.json``: what a packaged model is, in figures without names of cases.

    Attributes:
        name: the name of the model, of letters, digits, dots, dashes and underscores.
        deconvseg: the version that made it.
        folds: the number of folds; 0 for a single run.
        stored: the type of the weights in their files.
        cases: the numbers of training, validation and test cases ("train", "val", "test").
        excluded: the number of cases of the dataset that were left out.
        scored_on: the cases of the scores: "validation", "out-of-fold" or "test".
        scores: mean scores with intervals.
        command: the command that trained it, without paths; None for an imported model.
        imported: where an imported model comes from: "origin", and if known "preset" and the "sha256" of its
            checkpoints; None for one that was trained here.
        pretrained: whether the training began with the weights of another model.
        files: every file by its name.

    """

    version: Literal[1] = 1
    name: _Name
    deconvseg: str
    folds: int = Field(ge=0, le=999)
    stored: StoredType = "float32"
    cases: dict[Literal["train", "val", "test"], int] = {}
    excluded: int = 0
    scored_on: Literal["validation", "out-of-fold", "test"] | None = None
    scores: tuple[Score, ...] = ()
    command: str | None = None
    imported: dict[Literal["origin", "preset", "sha256"], str] | None = None
    pretrained: bool = False
    files: dict[str, PackagedFile]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files.values())

    def differing(self, folder: Path) -> Iterator[str]:
        """Yield the files that are missing in a folder, or are not those of the package."""
        for name, file in self.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
                yield name


def package_name(text: str) -> str:
    """Return a text as the name of a package: other characters than those of names become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def is_packaged_name(name: str) -> bool:
    """Whether a file of this name may be in a package; such names cannot leave its folder."""
    return _FILE.fullmatch(name) is not None


def parse_package(text: bytes | str, where: str, remedy: str) -> Package:
    """Return a checked ``package.json``; an :class:`InputError` names what is wrong in it."""
    parse_json(text, where)
    try:
        package = Package.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{where}: {key}: {first['msg']}; {remedy}") from error
    for name, file in package.files.items():
        if not is_packaged_name(name):
            raise InputError(f"{where}: {name!r} is no file of a model; {remedy}")
        if not name.endswith(".safetensors") and file.bytes > LARGEST_TEXT:
            raise InputError(f"{where}: {name} of {file.bytes:,} bytes is too large for its kind; {remedy}")
    return package


def read_package(folder: Path) -> Package | None:
    """Return the checked ``package.json`` of a folder; None without one."""
    path = folder / PACKAGE
    return parse_package(path.read_bytes(), str(path), "copy the model again") if path.is_file() else None
