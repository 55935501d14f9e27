"""The folder of a model that is given as a folder, a packed file, or a name on the hub or of a package."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from os import PathLike
from pathlib import Path

from deconvseg.runs.pretrained import find_pretrained
from deconvseg.runs.unpacking import is_packed, unpack
from deconvseg.system import Reference, reference_of

# The floor that fetches from the hub is higher, so it is imported by name when such a model is given.
_HUB = "deconvseg.integrations.hub.fetching"


def locate(model: str | PathLike[str]) -> Path:
    """Return the folder of a model.

    A model is a folder (of a run, a cross-validation or an export), which is returned as it is; a file of
    :func:`deconvseg.integrations.pack`, which is checked and unpacked into the user's cache; ``hf://ORG/NAME``, a
    repository on the hub of Hugging Face, with ``@REVISION`` for a branch, a tag or a commit; or ``pretrained:NAME``, a
    model of an installed package (:func:`list_pretrained`). Raises :class:`~deconvseg.errors.InputError` for a packed
    model that is damaged and for a name that does not exist. A name is looked up once by a process.

    Example:
        >>> from deconvseg.runs import locate
        >>> locate("RUN").name
        'RUN'
        >>> locate("pretrained:nothing")
        Traceback (most recent call last):
        deconvseg.errors.InputError: ...

    """
    reference = reference_of(model)
    if reference is not None:
        return _fetch(reference)
    path = Path(model)
    return unpack(path) if is_packed(path) else path


@cache
def _fetch(reference: Reference) -> Path:
    if reference.source == "pretrained":
        return unpack(find_pretrained(reference.name))
    fetched: Path = import_module(_HUB).fetch_model(reference)
    return fetched
