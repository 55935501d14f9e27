"""Models from the hub: downloaded by its own client into its cache, checked, and opened as runs."""

from __future__ import annotations

from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.integrations.hub.client import explaining, import_client
from deconvseg.runs import PACKAGE, read_package
from deconvseg.system import Reference


def fetch_model(reference: Reference) -> Path:
    """Return the folder of a model in the hub's cache, after a check of every file against its ``package.json``.

    Only the files that it lists are downloaded, all of one commit: the newest of the revision, or that in the cache if
    the hub cannot be reached or ``HF_HUB_OFFLINE`` is set. Raises :class:`~deconvseg.errors.InputError` for a name
    that does not exist and for files that were changed.
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
    return folder
