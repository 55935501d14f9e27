"""The files of a bundle: weights that need no unpickling, configurations, metadata and a page."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.exporting.contract import Contract, ExportedNetwork
from deconvseg.integrations.exporting.tracing import Members
from deconvseg.integrations.monai.configs import WEIGHTS, evaluation_config, inference_config
from deconvseg.integrations.monai.metadata import metadata, read_file, readme
from deconvseg.models import Network, create_model
from deconvseg.planning import Plan
from deconvseg.system import FOREIGN_ERRORS, first_line
from deconvseg.text import dump_json

__all__ = ["WEIGHTS", "bundle_files", "check_bundle_packages", "from_checkpoint", "to_checkpoint"]


def check_bundle_packages() -> None:
    """Import what runs a bundle; :class:`~deconvseg.errors.MissingPackageError` names the extra to install."""
    try:
        import fire  # noqa: F401
        import ignite  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"MONAI runs bundles with fire and pytorch-ignite, but {error.name} is not installed: "
            "pip install 'deconvseg[monai]'"
        ) from error


def to_checkpoint(network: nn.Module) -> bytes:
    """Return a state dict of tensors alone as ``torch.save`` writes it."""
    written = io.BytesIO()
    torch.save({name: value.detach().cpu().clone() for name, value in network.state_dict().items()}, written)
    return written.getvalue()


def from_checkpoint(content: bytes, networks: Sequence[ExportedNetwork], where: str) -> Network | Members:
    """Return the networks of a contract with the weights of a checkpoint, which is read with ``weights_only=True``.

    Raises :class:`~deconvseg.errors.InputError` that names ``where`` for other content and for other weights.
    """
    parts = [create_model(network.name, **network.config) for network in networks]
    network = parts[0] if len(parts) == 1 else Members(parts)
    try:
        weights: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except (*FOREIGN_ERRORS, pickle.UnpicklingError) as error:
        raise InputError(f"{where}: these are no weights of its networks: {first_line(error)}") from error
    return network.eval()


def bundle_files(contract: Contract, plan: Plan) -> dict[str, str]:
    """Return the texts of a bundle by their paths; its weights are the model of the contract."""
    trees = {
        "configs/metadata.json": metadata(contract, plan),
        "configs/inference.json": inference_config(contract),
        "configs/evaluate.json": evaluation_config(contract, plan),
    }
    return {
        **{path: dump_json(tree) + "\n" for path, tree in trees.items()},
        "configs/logging.conf": read_file("logging.conf"),
        "docs/README.md": readme(contract, plan),
        "LICENSE": read_file("LICENSE"),
    }
