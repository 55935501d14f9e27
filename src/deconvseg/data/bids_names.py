"""The names of BIDS: ``sub-01_ses-2_acq-fast_T1w.nii.gz`` is entities (key-value pairs) and a suffix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deconvseg.data.file_names import case_stem, is_image, without_copies
from deconvseg.data.json_files import read_json_object

# The entities that say which scan it was; the others (space, desc, label, …) say what was made of it.
SOURCE_ENTITIES = (
    *("sub", "ses", "sample", "task", "tracksys", "acq", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo"),
    *("flip", "inv", "mt", "part", "proc", "split", "recording", "chunk"),
)

DESCRIPTION = "dataset_description.json"
GENERATOR = "deconvseg"

MASK_SUFFIXES = ("dseg", "mask", "msk")  # msk is ISLES'22's own

_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")


@dataclass(frozen=True)
class BidsFile:
    """An image file by its name: its entities, its suffix (T1w, dseg, …), and its folder's (anat, dwi, …), if any."""

    path: Path
    entities: Mapping[str, str]
    suffix: str
    datatype: str

    @property
    def source_entities(self) -> dict[str, str]:
        """The entities that say which scan it was."""
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
        """What was made of the scan: ``desc-lesions_space-MNI``, whatever the order in the name."""
        return join_entities({key: self.entities[key] for key in sorted(set(self.entities) - set(SOURCE_ENTITIES))})


def parse_name(path: Path) -> BidsFile | None:
    """The file by its name, or None where the name is not BIDS's."""
    pairs, _, suffix = case_stem(path).rpartition("_")
    entities = parse_entities(pairs)
    if entities is None or not suffix.isalnum():
        return None
    folder = path.parent.name
    return BidsFile(path, entities, suffix, "" if folder.startswith(("sub-", "ses-")) else folder)


def parse_entities(text: str) -> dict[str, str] | None:
    """The pairs of ``sub-01_ses-2``, or None where the text is something else."""
    pairs = text.split("_")
    matches = [_ENTITY.fullmatch(pair) for pair in pairs]
    entities = {match[1]: match[2] for match in matches if match}
    return entities if len(entities) == len(pairs) and "sub" in entities else None


def subject_of(name: str) -> str:
    """The subject of a BIDS case, ``sub-01``, or the name itself."""
    entities = parse_entities(name)
    return name if entities is None else f"sub-{entities['sub']}"


def list_bids_masks(tree: Path) -> dict[str, list[Path]]:
    """The masks of a BIDS tree by the names of their cases; none in a folder that is no such tree."""
    found: dict[str, list[Path]] = {}
    for file in list_files(tree):
        if file.suffix in MASK_SUFFIXES:
            found.setdefault(file.case_name, []).append(file.path)
    return found


def list_files(tree: Path) -> list[BidsFile]:
    """The image files below the subjects' folders of ``tree`` that have BIDS names, sorted."""
    images = without_copies(path for path in sorted(tree.glob("sub-*/**/*")) if is_image(path) and path.exists())
    return [file for file in map(parse_name, images) if file is not None]


def is_generated_here(tree: Path) -> bool:
    """Whether the description of ``tree`` says that deconvseg made it; `InputError` where that is no JSON object."""
    description = tree / DESCRIPTION
    makers = read_json_object(description).get("GeneratedBy") if description.is_file() else None
    return isinstance(makers, list) and any(
        isinstance(maker, Mapping) and maker.get("Name") == GENERATOR for maker in makers
    )


def join_entities(entities: Mapping[str, str]) -> str:
    """``sub-01_ses-2`` from its parts."""
    return "_".join(f"{key}-{value}" for key, value in entities.items())
