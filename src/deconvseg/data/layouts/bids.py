"""BIDS layout: the images of a raw dataset with the masks of a derivative, or a derivative that contains both."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deconvseg.data.bids_names import DESCRIPTION, MASK_SUFFIXES, BidsFile, is_generated_here, list_files, parse_name
from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.file_names import case_stem, is_dead_link, is_image_file
from deconvseg.data.json_files import read_json_object
from deconvseg.data.layouts.left_out import find_left_out
from deconvseg.data.listing import find_splits
from deconvseg.errors import InputError

# Folders of a BIDS dataset without raw images.
_OTHER_FOLDERS = ("derivatives", "sourcedata", "rawdata", "code", "stimuli", "phenotype", "figures", "logs")
_NO_IMAGES = (*MASK_SUFFIXES, "probseg")
_ADVICE = "give the pairs in a .csv file with the columns image_T1w, image_FLAIR, … and label"


def is_bids(root: Path) -> bool:
    """Return whether a folder has subjects (``[rawdata/]sub-…/``) and a description or ``derivatives/``."""
    return any(
        _has_subjects(tree) and ((tree / DESCRIPTION).is_file() or (root / "derivatives").is_dir())
        for tree in (root, root / "rawdata")
    )


def open_bids(root: Path) -> Dataset:
    """Open a BIDS dataset with ``…_dseg`` or ``…_mask`` files of one kind; channels are the suffixes of the images.

    The images of a mask have the same subject, session, folder (anat, dwi, …) and space, and agree with it in every
    entity that both have. If the sidecar of the mask names ``Sources``, its images are these. Images are searched
    next to the mask, and in the raw dataset if the tree of the mask has none. Label names are read from ``…_dseg.tsv``.
    Masks predicted by deconvseg are used only if their own folder is opened.

    Raises `InputError` if there are masks of several kinds (pipeline, description, space, label).
    """
    raw, trees = _trees(root)
    kinds: dict[tuple[Path, str, str], list[BidsFile]] = defaultdict(list)
    for tree in trees:
        for file in list_files(tree):
            if file.suffix in MASK_SUFFIXES:
                kinds[tree, file.made, file.suffix].append(file)
    if len(kinds) > 1:
        examples = list_names(files[0].path.relative_to(root).as_posix() for files in kinds.values())
        raise InputError(
            f"{root} has {len(kinds)} kinds of masks: {examples}; open the one derivative's folder, or {_ADVICE}"
        )
    masks = next(iter(kinds.values()), [])
    tree = next(iter(kinds))[0] if kinds else raw
    images = _images(tree, masks) or _images(raw, masks)
    candidates = _candidates(masks, images)
    channels = sorted({file.suffix for found in candidates if found.mask or not masks for file in found.images})
    if not channels:
        wanted = f"no image for its masks ({masks[0].path.name}, …)" if masks else "neither images nor masks"
        raise InputError(f"{root} has {wanted}; open the raw dataset whose derivatives/ has the masks, or {_ADVICE}")
    twice = [name for name, times in Counter(found.name for found in candidates).items() if times > 1]
    if twice:
        raise InputError(f"{root} has several masks of {list_names(twice)}; keep one of each, or {_ADVICE}")
    cases, problems = _complete(candidates, channels, bool(masks))
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    return Dataset(
        root=root,
        layout="bids",
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channel_names=tuple(channels),
        label_names=_label_names(tree, masks) if masks else None,
        splits_file=find_splits(root),
        problems=(
            *_misnamed(raw, "error"),
            *(_misnamed(tree, "warning") if tree != raw else ()),
            *_absent({raw, tree}, (*channels, *(mask.suffix for mask in masks[:1]))),
            *problems,
        ),
    )


def _has_subjects(tree: Path) -> bool:
    return any(path.is_dir() for path in tree.glob("sub-*"))


def _trees(root: Path) -> tuple[Path, list[Path]]:
    """Return the raw tree and the trees that may contain masks; predictions of deconvseg only if opened themselves."""
    description = root / DESCRIPTION
    if description.is_file() and read_json_object(description).get("DatasetType") == "derivative":
        parent = root.resolve().parent
        return _raw(parent.parent if parent.name == "derivatives" else root), [root]
    derivatives = root / "derivatives"
    below = sorted(path for path in derivatives.iterdir() if path.is_dir()) if derivatives.is_dir() else []
    trees = (_raw(root), derivatives, *below)
    return _raw(root), [tree for tree in trees if _has_subjects(tree) and not is_generated_here(tree)]


def _raw(root: Path) -> Path:
    return root if _has_subjects(root) else root / "rawdata"


def _images(tree: Path, masks: Sequence[BidsFile]) -> list[BidsFile]:
    """Return the images in the folders (anat, dwi, …) and spaces of the masks; all images if there are no masks."""
    datatypes = {mask.datatype for mask in masks}
    everywhere = not masks or "" in datatypes
    return [
        file
        for file in list_files(tree)
        if file.suffix not in _NO_IMAGES
        and (everywhere or file.datatype in datatypes)
        and all(_in_space(file, mask) for mask in masks[:1])
    ]


def _in_space(image: BidsFile, mask: BidsFile) -> bool:
    """Return whether the image is in the space of the mask, or is the scan after which the space is named."""
    wanted, found = (
        None if file.entities.get("space") == "orig" else file.entities.get("space") for file in (mask, image)
    )
    resolutions = [file.entities.get("res") for file in (mask, image)]
    return resolutions[0] == resolutions[1] and (wanted == found or (found is None and wanted == image.suffix))


@dataclass(frozen=True)
class _Candidate:
    """A possible case: the mask, if there is one, and the images that may be its channels."""

    name: str
    mask: BidsFile | None
    images: list[BidsFile]


def _candidates(masks: Sequence[BidsFile], images: Sequence[BidsFile]) -> list[_Candidate]:
    """Return each mask with its images, and each visit without a mask."""
    by_visit: dict[str, list[BidsFile]] = defaultdict(list)
    for image in images:
        by_visit[image.visit].append(image)
    with_mask = {mask.visit for mask in masks}
    return [
        *(_Candidate(mask.case_name, mask, _of_mask(mask, by_visit.get(mask.visit, []))) for mask in masks),
        *(_Candidate(visit, None, found) for visit, found in by_visit.items() if visit not in with_mask),
    ]


def _complete(
    candidates: Iterable[_Candidate], channels: Sequence[str], masked: bool
) -> tuple[list[Case], list[Problem]]:
    """Return the cases with one image per channel, and problems for incomplete cases and missing masks."""
    cases, problems = [], []
    for candidate in candidates:
        mask = candidate.mask.path if candidate.mask else None
        where = str(mask or candidate.images[0].path)
        by_suffix = {suffix: [file for file in candidate.images if file.suffix == suffix] for suffix in channels}
        missing = ", ".join(suffix for suffix, found in by_suffix.items() if not found)
        several = next((found for found in by_suffix.values() if len(found) > 1), None)
        message = "has no mask" if mask is None and masked else ""
        if several:
            rivals = list_names(file.path.name for file in several)
            message = f"has several images {several[0].suffix} ({rivals}) and is left out; keep one, or {_ADVICE}"
        elif missing:
            message = f"has no image {missing} and is left out; add it, or {_ADVICE}"
        else:
            cases.append(Case(candidate.name, tuple(by_suffix[suffix][0].path for suffix in channels), mask))
        if message:
            problems.append(Problem(where, message, "error", candidate.name))
    return cases, problems


def _absent(trees: Iterable[Path], suffixes: Sequence[str]) -> list[Problem]:
    """Return warnings for files that DataLad or git-annex lists but has not fetched (dead links)."""
    message = "is a link to a file that is not there, and is left out; fetch it (datalad get, git annex get)"
    dead = (
        path
        for tree in sorted(trees)
        for path in sorted(tree.glob("sub-*/**/*"))
        if is_image_file(path) and is_dead_link(path)
    )
    links = map(parse_name, dead)
    return [Problem(str(link.path), message, "error") for link in links if link and link.suffix in suffixes]


def _misnamed(tree: Path, severity: Literal["error", "warning"]) -> tuple[Problem, ...]:
    """Return problems for images of a tree that are ignored because of their names or formats."""
    named = (path for path in tree.glob("sub-*/**/*") if is_image_file(path) and parse_name(path) is not None)
    because = "whose names or folders are not those of BIDS (sub-01/anat/sub-01_T1w.nii.gz)"
    return find_left_out(tree, named, severity=severity, because=because, skip=_OTHER_FOLDERS)


def _of_mask(mask: BidsFile, images: Iterable[BidsFile]) -> list[BidsFile]:
    """Return the images of a mask: the sources in its sidecar, else the images of the visit that agree with it."""
    agreeing = [
        image
        for image in images
        if all(image.entities.get(key, mask.entities[key]) == mask.entities[key] for key in mask.source_entities)
    ]
    sidecar = mask.path.with_name(f"{case_stem(mask.path)}.json")
    record = read_json_object(sidecar) if sidecar.is_file() else {}
    listed = [record.get(key, []) for key in ("Sources", "RawSources")]
    sources = {
        str(name).rpartition("/")[2] for names in listed for name in (names if isinstance(names, list) else [names])
    }
    return [image for image in agreeing if image.path.name in sources] or agreeing


def _label_names(tree: Path, masks: Sequence[BidsFile]) -> Mapping[int, str] | None:
    """Return the label names from the tables of the masks; the ``label`` entity names the label of one-label masks."""
    if masks[0].suffix != "dseg":
        label = masks[0].entities.get("label")
        return {0: "background", 1: label} if label else None
    beside = {mask.path.with_name(f"{case_stem(mask.path)}.tsv") for mask in masks}
    shared = [path for path in sorted(tree.glob("*dseg.tsv")) if _is_shared(path, masks[0])]
    names: dict[int, tuple[str, Path]] = {}
    for table in (*shared, *sorted(path for path in beside if path.is_file())):
        for value, name in _read_table(table).items():
            if names.setdefault(value, (name, table))[0] != name:
                other, where = names[value]
                raise InputError(
                    f"{table} names the label {value} {name!r}, but {where} {other!r}; correct one of them"
                )
    if not names:
        return None
    return {0: "background"} | {value: name for value, (name, _) in sorted(names.items())}


def _is_shared(table: Path, mask: BidsFile) -> bool:
    """Return whether a table at the root applies to the mask by BIDS inheritance (its entities agree)."""
    pairs = (pair.partition("-") for pair in table.name.removesuffix(".tsv").split("_")[:-1])
    return all(mask.entities.get(key) == value for key, _, value in pairs)


def _read_table(path: Path) -> dict[int, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return {int(row["index"]): row["name"].strip() for row in csv.DictReader(stream, delimiter="\t")}
    except (csv.Error, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a table of labels ({type(error).__name__}: {error}); it needs the columns index and name, "
            "separated by tabs"
        ) from error
