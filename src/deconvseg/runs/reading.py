"""Reuse the options with which the dataset of a run was read for other folders with similar file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deconvseg.data import has_patterns, is_dataset
from deconvseg.runs.folder import Run


def patterns_of_run(run: Run, folder: Path, *, masks: bool = True) -> dict[str, Any]:
    """Return the patterns (``image``, ``mask``) of a run's training if a folder has files that match each.

    They are omitted for a folder that is a dataset itself. With ``masks`` the result includes the ``labels`` of the
    run, which define the colours and values of masks; without ``masks`` the folder need not contain any.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.runs import Run, patterns_of_run
        >>> patterns_of_run(Run.open("RUN"), Path("SCANS"))  # a run whose dataset was read without patterns
        {}

    """
    image, mask, labels = (_texts(run.config.get(name)) for name in ("image", "mask", "labels"))
    named = {"labels": labels} if masks and labels else {}
    if not image or not folder.is_dir() or is_dataset(folder) or not has_patterns(folder, image, "image"):
        return named
    if mask and has_patterns(folder, mask, "mask"):
        return {"image": image, "mask": mask, **named}
    return named if masks else {"image": image}


def _texts(kept: Any) -> list[str]:
    return [text for text in kept if isinstance(text, str)] if isinstance(kept, list) else []
