"""Names of models that lie elsewhere: ``hf://ORG/NAME[@REVISION]`` on the hub, ``pretrained:NAME`` in a package."""

from __future__ import annotations

import re
from os import PathLike, fspath
from typing import NamedTuple

# `Path` makes one slash of two.
_REFERENCE = re.compile(r"(hf):/{1,2}(.+)|(pretrained):(.+)", re.DOTALL)


class Reference(NamedTuple):
    """The source of a model, "hf" or "pretrained", and its name there."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{'//' if self.source == 'hf' else ''}{self.name}"


def reference_of(model: object) -> Reference | None:
    """Return the reference that a text is; None for a path.

    >>> reference_of("hf://clinic/lesions@v2")
    Reference(source='hf', name='clinic/lesions@v2')
    >>> reference_of("runs/lesions") is None
    True
    """
    if not isinstance(model, str | PathLike):
        return None
    found = _REFERENCE.fullmatch(str(fspath(model)))
    return None if found is None else Reference(*(part for part in found.groups() if part is not None))
