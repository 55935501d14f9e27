"""A trained run as a repository on the hub, with a model card."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deconvseg.errors import InputError
from deconvseg.inference import CONTRACT
from deconvseg.integrations.hub.client import explaining, import_client
from deconvseg.integrations.sharing.card import model_card
from deconvseg.integrations.sharing.writing import write_package
from deconvseg.options import PushOptions, takes
from deconvseg.planning import read_plan
from deconvseg.progress import choose_console
from deconvseg.runs import locate
from deconvseg.runs.package import is_packaged_name
from deconvseg.system import write_text

CARD = "README.md"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")


@dataclass(frozen=True)
class Pushed:
    """What was sent: the repository, its commit and address; without a commit nothing was sent."""

    repository: str
    url: str
    commit: str | None = None


@takes(PushOptions)
def push(asked: PushOptions) -> Pushed:
    """Send a finished run or cross-validation to a repository on the hub of Hugging Face, as ``hf://ORG/NAME``.

    The repository, which is made if it does not exist, gets the files of :func:`pack` and a model card (README.md):
    data in figures, scores with intervals, limits, and how to run it. Names of cases, paths and the state to resume the
    training are not sent. The hub's own client sends it: its token is that of ``HF_TOKEN`` or of ``hf auth login``, and
    ``HF_ENDPOINT`` is another hub. All files are one commit, which removes those of an earlier model and no others. A
    card that the repository has is kept, unless ``replace_card`` is given.

    With ``dry_run`` the files are written to a folder, to be read before they are sent. Raises
    :class:`~deconvseg.errors.InputError` without a ``license``, for an unfinished run, and for a repository that the
    token may not write to; :class:`~deconvseg.errors.MissingPackageError` without the extra ``hub``.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.integrations import push
        >>> pushed = push("RUN", "my-group/discs", license="cc-by-4.0", dry_run="FOLDER")
        >>> pushed.commit is None, Path("FOLDER", "README.md").is_file()
        (True, True)

    """
    repository, license, run = asked.repository.removeprefix("hf://"), asked.license, locate(asked.run)
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"`repository={asked.repository!r}`: give ORG/NAME, with letters, digits, dots and dashes")
    if license is None or not _LICENSE.fullmatch(license):
        given = "" if license is None else f"={license!r}"
        raise InputError(
            f"`license{given}`: give the licence of the weights by the hub's name, such as cc-by-4.0, apache-2.0 or "
            "other; that of the training data may restrict it"
        )
    if (run / CONTRACT).is_file():
        raise InputError(f"{run}: is an export; give the run that it was made from")
    console, hub = choose_console(asked.console), None if asked.dry_run is not None else import_client()
    with ExitStack() as held:
        if hub is None:
            folder = Path(asked.dry_run or "")
            if folder.exists():
                raise InputError(f"`dry_run={str(folder)!r}`: exists already; give a new folder")
        else:
            folder = Path(held.enter_context(TemporaryDirectory(prefix="deconvseg-push-"))) / "model"
        with console.track("writing the model and its card"):
            _write(run, folder, asked, repository, license)
        if hub is None:
            return Pushed(repository, f"hf://{repository}")
        with explaining(repository, writing=True), console.track(f"sending to hf://{repository}"):
            pushed, kept = _send(hub.HfApi(library_name="deconvseg"), repository, folder, asked)
    if kept:
        console.say(f"the repository keeps its {CARD}; the new one is written with `replace_card=True`")
    return pushed


def _send(api: Any, repository: str, folder: Path, asked: PushOptions) -> tuple[Pushed, bool]:
    """Send a folder as one commit; return it, and whether the repository keeps its card."""
    api.create_repo(repository, private=asked.private or None, exist_ok=True)
    if asked.revision is not None:
        api.create_branch(repository, branch=asked.revision, exist_ok=True)
    present = api.list_repo_files(repository, revision=asked.revision)
    kept = CARD in present and not asked.replace_card
    commit = api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        revision=asked.revision,
        commit_message="Upload a model of deconvseg",
        ignore_patterns=[CARD] if kept else None,
        # Files of an earlier model, such as its further folds.
        delete_patterns=[name for name in present if is_packaged_name(name)],
    )
    return Pushed(repository, f"{api.endpoint}/{repository}", commit.oid), kept


def _write(run: Path, folder: Path, asked: PushOptions, repository: str, license: str) -> None:
    try:
        package = write_package(run, folder, stored=asked.stored, name=repository.partition("/")[2])
        card = model_card(package, read_plan(folder / "plan.json"), license=license, source=f"hf://{repository}")
        write_text(folder / CARD, card)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
