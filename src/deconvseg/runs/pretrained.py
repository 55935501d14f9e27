"""Trained models of installed packages, by name: packed files that an entry point registers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deconvseg.errors import InputError, suggest
from deconvseg.system import load_plugins

_GROUP = "deconvseg.pretrained"
_PRETRAINED: dict[str, Path] = {}
# The package of this project with trained models.
WEIGHTS_PACKAGE = "deconvseg-weights"


def register_pretrained(name: str, file: Path) -> None:
    """Make a packed model available as ``pretrained:NAME``.

    A package calls it in a module that its entry point of the group ``deconvseg.pretrained`` names. Raises
    :class:`~deconvseg.errors.InputError` for a name that another file has.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.runs import list_pretrained, register_pretrained
        >>> register_pretrained("discs", Path("discs.dseg.zip"))
        >>> "discs" in list_pretrained()
        True

    """
    if _PRETRAINED.setdefault(name, file) != file:
        raise InputError(f"two packages have a pretrained model {name!r}: {_PRETRAINED[name]} and {file}; remove one")


def list_pretrained() -> Mapping[str, Path]:
    """Return the packed files of all pretrained models of installed packages, by name.

    Example:
        >>> from deconvseg.runs import list_pretrained
        >>> "no such model" in list_pretrained()
        False

    """
    load_plugins(_GROUP)
    return dict(sorted(_PRETRAINED.items()))


def find_pretrained(name: str) -> Path:
    """Return the packed file of a pretrained model; :class:`InputError` names the installed ones."""
    known = list_pretrained()
    if name in known:
        return known[name]
    if not known:
        raise InputError(
            f"pretrained:{name}: no package with pretrained models is installed; install {WEIGHTS_PACKAGE} (in the "
            "repository: pip install ./weights), or give a run or a packed model"
        )
    raise InputError(
        f"there is no pretrained model {name!r}; {suggest(name, known)}the installed ones are {', '.join(known)}"
    )
