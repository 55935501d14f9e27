"""Models from the hub: downloaded by its own client into its cache, checked, and opened as runs."""

from __future__ import annotations

from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.inference import CONTRACT
from deconvseg.integrations.hub.client import explaining, import_client
from deconvseg.runs import PACKAGE, Package, read_package
from deconvseg.runs.package import is_packaged_name
from deconvseg.system import Reference


def fetch_model(reference: Reference) -> Path:
    """Return the folder of a model in the hub's cache, after a check of every file against its ``package.json``.

    Only the files that it lists are downloaded, all of one commit: the newest of the revision, or that in the cache if
    the hub cannot be reached or ``HF_HUB_OFFLINE`` is set. Raises :class:`~deconvseg.errors.InputError` for a name
    that does not exist and for files that were changed, or that
    a prediction would read although they are not listed.
    """
    hub = import_client()
    repository, _, revision = reference.name.partition("@")
    with explaining(reference.name):
        listing = Path(hub.hf_hub_download(repository, PACKAGE, revision=revision or None))
        # The hub's cache has a folder for each commit.
        folder = listing.parent
        package = read_package(folder)
        assert package is not None
        for name in package.files:
            hub.hf_hub_download(repository, name, revision=folder.name)
    if wrong := next(package.differing(folder), None):
        raise InputError(
            f"{reference}: the SHA-256 of {wrong} is not that of its {PACKAGE}; remove {folder} and try again, or tell "
            "the owner of the repository"
        )
    if unlisted := _find_unlisted(package, folder):
        raise InputError(
            f"{reference}: {unlisted} is not listed in its {PACKAGE}, but would change its masks; remove it from "
            f"{folder} and from the repository"
        )
    return folder


def _find_unlisted(package: Package, folder: Path) -> str | None:
    """Return a file of a run or of an export that the package does not list; other files of a repository are none."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    known = (name for name in names if is_packaged_name(name) or name.rpartition("/")[2] == CONTRACT)
    return next((name for name in known if name not in package.files), None)
