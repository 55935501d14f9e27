"""The files with the weights of a run: the final ones, and those with the best validation score."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, TypeAlias

from deconvseg.data import file_sha256
from deconvseg.errors import InputError
from deconvseg.system import atomic_write

if TYPE_CHECKING:
    import torch

    from deconvseg.models import Network
    from deconvseg.runs.folder import Run

_log = logging.getLogger("deconvseg")

WeightsChoice: TypeAlias = Literal["final", "best"]
WeightsFile: TypeAlias = Literal["weights", "weights_best"]
_FILES: Mapping[WeightsChoice, WeightsFile] = {"final": "weights", "best": "weights_best"}


def file_of(which: WeightsChoice) -> str:
    """Return the name of the file with the final or the best weights."""
    return f"{_FILES[which]}.safetensors"


def choose(run: Run, asked: WeightsChoice | None = None) -> WeightsChoice:
    """Return the requested weights, or those of the run's recipe; :class:`InputError` if they do not exist."""
    which = run.plan.recipe.weights if asked is None else asked
    file = run.path / file_of(which)
    if which == "final" or file.is_file():
        return which
    if run.valid_hashes(file.name):
        raise InputError(f"{file} is missing; copy the run again, or take the final weights (`weights='final'`)")
    _check_begun(run)
    raise InputError(
        f"{run.path}: has no best weights, because no epoch was validated; take the final ones (`weights='final'`)"
    )


def _check_begun(run: Run) -> None:
    """Raise an error if the run has never had any weights."""
    final = file_of("final")
    if not (run.path / final).is_file() and not run.valid_hashes(final):
        raise InputError(
            f"{run.path}: no weights yet, because its training was ended before the first epoch was complete; continue "
            "the training (`resume=True`)"
        )


def save(run: Run, weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Write weights, and their SHA-256 to the manifest."""
    from safetensors.torch import save

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    content = save(tensors, metadata={"format": "pt"})
    with atomic_write(run.path / name) as file:
        # Written as bytes, because the file writing of safetensors hides the system's error for a full disk.
        file.write_bytes(content)
        # The manifest is written first and keeps the old hash too, so that the old weights stay valid after a crash.
        manifest, digest = run.manifest, sha256(content).hexdigest()
        replaced, files = manifest.get("replaced", {}), manifest.get("files", {})
        # An earlier attempt may also have been stopped before its weights were in place.
        older = run.valid_hashes(name)
        run.update_manifest(replaced={**replaced, name: older}, files={**files, name: digest})
    run.update_manifest(replaced={key: value for key, value in replaced.items() if key != name})


def load(run: Run, name: str) -> dict[str, torch.Tensor]:
    """Read weights after a check of their SHA-256 against the manifest."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = run.path / name
    if run.holds_folds:
        raise InputError(f"{run.path}: a cross-validation, without weights of its own; give a fold of it (fold_0)")
    if not path.is_file():
        _check_begun(run)
        raise InputError(f"{path}: no weights there; copy the run again")
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: not a safetensors file, nothing was loaded (pickled weights are never read): {error}"
        ) from error
    # Check twice, because a running training may have replaced both files in between.
    if not run.valid_hashes(path.name):
        _log.warning("%s: manifest.json has no hash of it, so it is not checked for damage", path)
    elif not any(file_sha256(path) in run.valid_hashes(path.name) for _ in range(2)):
        raise InputError(
            f"{path}: its SHA-256 is not the one in manifest.json; the file is damaged: copy the run again"
        )
    return weights


def network(run: Run, which: WeightsChoice, device: str) -> Network:
    """Return the network with the final weights, or with the best ones as far as the run ever had any."""
    from deconvseg.models import create_model

    best = run.path / file_of("best")
    if which == "best" and not best.is_file() and best.name in run.manifest.get("files", {}):
        raise InputError(f"{best} is missing; copy the run again, or take the final weights (`which='final'`)")
    kind = _FILES["best" if which == "best" and best.is_file() else "final"]
    network = create_model(run.plan.model.name, **run.plan.model.config)
    network.load_weights(run.load_weights(kind), str(run.path / f"{kind}.safetensors"), "plan.json describes")
    return network.to(device).eval()
