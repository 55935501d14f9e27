"""A trained run as one file."""

from __future__ import annotations

import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from deconvseg.errors import InputError
from deconvseg.evaluation import Evaluation
from deconvseg.inference import CONTRACT
from deconvseg.integrations.sharing.writing import write_package
from deconvseg.options import PackOptions, takes
from deconvseg.runs import PACKAGE, PACKED_SUFFIX, Package, StoredType, locate
from deconvseg.system import atomic_write, make_folder, refuse_blocked

_BLOCK = 2**20
# Zip files cannot have an earlier date.
_DATE = (1980, 1, 1, 0, 0, 0)


@takes(PackOptions)
def pack(asked: PackOptions) -> Package:
    """Write a finished run or cross-validation as one file, which :func:`deconvseg.predict` takes as a model.

    The file has what a prediction needs, with the SHA-256 of every part, and neither names of cases, nor paths, nor the
    state to resume the training; lists of cases are replaced by counts. The same run gives the same bytes. It is a zip
    file without compression, and its name ends with ``.dseg.zip``.

    Raises :class:`~deconvseg.errors.InputError` for an unfinished run, and for weights beyond the type that they are
    to be stored in.

    Example:
        >>> from deconvseg.integrations import pack
        >>> package = pack("RUN", "discs.dseg.zip")
        >>> package.cases, "weights.safetensors" in package.files
        ({'train': 4, 'val': 2, 'test': 2}, True)
        >>> import deconvseg
        >>> len(deconvseg.predict("SCANS", "discs.dseg.zip", "NEW_MASKS").written)
        8

    """
    output, run = Path(asked.output), locate(asked.run)
    if not output.name.endswith(PACKED_SUFFIX) or output.name == PACKED_SUFFIX:
        raise InputError(f"`output={str(output)!r}`: the name of a packed run ends with {PACKED_SUFFIX}")
    if (run / CONTRACT).is_file():
        raise InputError(f"{run}: is an export; give the run that it was made from")
    refuse_blocked(output)
    return write_packed(run, output, stored=asked.stored)


def write_packed(
    run: Path,
    output: Path,
    *,
    stored: StoredType = "float32",
    name: str | None = None,
    scored: tuple[Literal["validation", "test"], Evaluation] | None = None,
) -> Package:
    """Write a run as one file, as :func:`write_package` writes it to a folder."""
    with TemporaryDirectory(prefix=".pack-", dir=make_folder(output.absolute().parent)) as place:
        folder = Path(place) / "package"
        package = write_package(run, folder, stored=stored, name=name, scored=scored)
        with atomic_write(output) as file:
            _write_zip(file, folder, [PACKAGE, *package.files])
    return package


def _write_zip(file: Path, folder: Path, names: list[str]) -> None:
    """Write files uncompressed, in this order and without times, so that equal files give equal bytes."""
    with ZipFile(file, "w", ZIP_STORED, allowZip64=True) as packed:
        for name in names:
            entry = ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, packed.open(entry, "w") as target:
                while block := source.read(_BLOCK):
                    target.write(block)
