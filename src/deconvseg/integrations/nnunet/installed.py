"""nnU-Net v2 as it is installed here: its version, its folders and its datasets."""

import os
import re
from pathlib import Path

from deconvseg.errors import InputError, MissingPackageError, suggest
from deconvseg.system import package_version

# The first version whose networks are named by the plans, and the first that looks for trainers outside of itself.
READS_NETWORKS, FINDS_TRAINERS = (2, 3, 1), (2, 8)

# nnU-Net's names of datasets, which are names of folders too.
DATASET_NAME = re.compile(r"Dataset\d{3}_[\w.-]+")

_NUMBERS = re.compile(r"\d+")


def check_nnunet(least: tuple[int, ...], feature: str) -> str:
    """Return the version of nnU-Net that is installed; an error says what to install for a feature."""
    found = package_version("nnunetv2")
    if found is None:
        raise MissingPackageError(
            f"{feature} needs nnunetv2, which is not installed: pip install 'deconvseg[nnunetv2]'"
        )
    if tuple(map(int, _NUMBERS.findall(found)[:3])) < least:
        wanted = ".".join(map(str, least))
        plans = "; plans for it work without, with its own trainers" if least == FINDS_TRAINERS else ""
        raise InputError(
            f"{feature} needs nnunetv2 {wanted} or later, and {found} is installed: pip install 'nnunetv2>=2.8'{plans}"
        )
    return found


def nnunet_folder(variable: str) -> Path:
    """Return one of nnU-Net's folders: the value of ``nnUNet_raw``, ``nnUNet_preprocessed`` or ``nnUNet_results``."""
    value = os.environ.get(variable)
    if not value:
        raise InputError(f"{variable} is not set: export it, as for nnU-Net's own commands")
    folder = Path(value)
    if not folder.is_dir():
        raise InputError(f"{variable}={value}: there is no such folder")
    return folder


def find_dataset(dataset: int | str) -> str:
    """Return the name of a raw dataset of nnU-Net by its number or name, once its fingerprint was extracted."""
    raw, preprocessed = nnunet_folder("nnUNet_raw"), nnunet_folder("nnUNet_preprocessed")
    known = sorted(path.name for path in raw.glob("Dataset[0-9][0-9][0-9]_*") if (path / "dataset.json").is_file())
    prefix = f"Dataset{dataset:03d}_" if isinstance(dataset, int) else None
    found = [name for name in known if (name.startswith(prefix) if prefix else name == dataset)]
    if len(found) != 1:
        there = ", ".join(found or known) or "none"
        which = f"{len(found)} datasets have this number" if found else "no dataset has this number or name"
        hint = "" if isinstance(dataset, int) else suggest(dataset, known)
        raise InputError(f"`dataset={dataset!r}`: {which} in {raw}: {hint}there are {there}")
    name = found[0]
    if not (preprocessed / name / "dataset_fingerprint.json").is_file():
        number = int(name[7:10])
        raise InputError(
            f"{preprocessed / name}: has no dataset_fingerprint.json yet: run nnUNetv2_extract_fingerprint -d {number} "
            f"(or nnUNetv2_plan_and_preprocess -d {number}) first"
        )
    return name
