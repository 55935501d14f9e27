"""BIDS file names: ``sub-01_ses-2_acq-fast_T1w.nii.gz`` consists of entities (key-value pairs) and a suffix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deconvseg.data.file_names import case_stem, is_image, without_copies
from deconvseg.data.json_files import read_json_object

# The entities that identify the scan; the others (space, desc, label, …) describe what was derived from it.
SOURCE_ENTITIES = (
    *("sub", "ses", "sample", "task", "tracksys", "acq", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo"),
    *("flip", "inv", "mt", "part", "proc", "split", "recording", "chunk"),
)

DESCRIPTION = "dataset_description.json"
GENERATOR = "deconvseg"

MASK_SUFFIXES = ("dseg", "mask", "msk")  # only ISLES'22 uses msk

_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")


@dataclass(frozen=True)
class BidsFile:
    """The parsed name of an image file: its entities, suffix (T1w, dseg, …), and folder (anat, dwi, …)."""

    path: Path
    entities: Mapping[str, str]
    suffix: str
    datatype: str

    @property
    def source_entities(self) -> dict[str, str]:
        """The entities that identify the scan."""
        return {key: value for key, value in self.entities.items() if key in SOURCE_ENTITIES}

    @property
    def case_name(self) -> str:
        """The entities of the scan: ``sub-01_ses-2_run-1``."""
        return join_entities(self.source_entities)

    @property
    def visit(self) -> str:
        """The subject and the session: ``sub-01_ses-2``."""
        return join_entities({key: value for key, value in self.entities.items() if key in ("sub", "ses")})

    @property
    def made(self) -> str:
        """The other entities, sorted, which describe the derivative: ``desc-lesions_space-MNI``."""
        return join_entities({key: self.entities[key] for key in sorted(set(self.entities) - set(SOURCE_ENTITIES))})


def parse_name(path: Path) -> BidsFile | None:
    """Parse the name of a file; None if it is not a BIDS name."""
    pairs, _, suffix = case_stem(path).rpartition("_")
    entities = parse_entities(pairs)
    if entities is None or not suffix.isalnum():
        return None
    folder = path.parent.name
    return BidsFile(path, entities, suffix, "" if folder.startswith(("sub-", "ses-")) else folder)


def parse_entities(text: str) -> dict[str, str] | None:
    """Return the entities of a text such as ``sub-01_ses-2``, or None if it is anything else."""
    pairs = text.split("_")
    matches = [_ENTITY.fullmatch(pair) for pair in pairs]
    entities = {match[1]: match[2] for match in matches if match}
    return entities if len(entities) == len(pairs) and "sub" in entities else None


def subject_of(name: str) -> str:
    """Return the subject of a BIDS case, such as ``sub-01``, or the name itself if it is not a BIDS name."""
    entities = parse_entities(name)
    return name if entities is None else f"sub-{entities['sub']}"


def list_bids_masks(tree: Path) -> dict[str, list[Path]]:
    """Return the masks of a BIDS tree by case name; no masks for a folder that is not a BIDS tree."""
    found: dict[str, list[Path]] = {}
    for file in list_files(tree):
        if file.suffix in MASK_SUFFIXES:
            found.setdefault(file.case_name, []).append(file.path)
    return found


def list_files(tree: Path) -> list[BidsFile]:
    """Return the image files with BIDS names below the subject folders of ``tree``, sorted."""
    images = without_copies(path for path in sorted(tree.glob("sub-*/**/*")) if is_image(path) and path.exists())
    return [file for file in map(parse_name, images) if file is not None]


def is_generated_here(tree: Path) -> bool:
    """Return whether deconvseg made ``tree``, by its description; `InputError` if that is not a JSON object."""
    description = tree / DESCRIPTION
    makers = read_json_object(description).get("GeneratedBy") if description.is_file() else None
    return isinstance(makers, list) and any(
        isinstance(maker, Mapping) and maker.get("Name") == GENERATOR for maker in makers
    )


def join_entities(entities: Mapping[str, str]) -> str:
    """Join entities to a text such as ``sub-01_ses-2``."""
    return "_".join(f"{key}-{value}" for key, value in entities.items())
