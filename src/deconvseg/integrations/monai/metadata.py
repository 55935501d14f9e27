"""``configs/metadata.json`` of a bundle, by MONAI's published schema, and its page for readers."""

from __future__ import annotations

from importlib import resources
from string import Template
from typing import Any

from deconvseg._version import __version__
from deconvseg.integrations.exporting.contract import Contract
from deconvseg.integrations.monai.configs import plain
from deconvseg.planning import Plan
from deconvseg.system import package_version
from deconvseg.text import number_of

# Fixed by its date; MONAI's site and its repository of test data hold the same file.
SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"


def metadata(contract: Contract, plan: Plan) -> dict[str, Any]:
    """Return the metadata; ``channel_def`` of the output are the values of mask files, which MONAI Label shows."""
    structures = [plain(part.name) for part in contract.structures]
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported by deconvseg"},
        "monai_version": package_version("monai") or "",
        "pytorch_version": (package_version("torch") or "").partition("+")[0],
        "numpy_version": package_version("numpy") or "",
        "required_packages_version": {
            "deconvseg": __version__,
            "nibabel": package_version("nibabel") or "",
            "pytorch-ignite": package_version("pytorch-ignite") or "",
        },
        "name": plain(plan.dataset) or "segmentation",
        "task": f"Segmentation of {', '.join(structures)}",
        "description": (
            f"{_networks(contract)} in {contract.image.dims}D, trained on {plan.dataset or 'a dataset'} by deconvseg "
            f"for {' and '.join(str(network.epochs) for network in contract.networks)} epochs"
        ),
        "authors": "not stated",
        "copyright": "not stated",
        "data_source": plain(plan.dataset) or "not stated",
        "data_type": "any format of deconvseg" if contract.image.dims == 3 else "pictures",
        "image_classes": f"channels {', '.join(plain(channel.name) for channel in contract.image.channels)}",
        "label_classes": _values(contract),
        "pred_classes": _values(contract),
        "intended_use": "Research. This is not a medical device.",
        "network_data_format": _format(contract),
    }


def readme(contract: Contract, plan: Plan) -> str:
    """Return ``docs/README.md``: what the bundle does, and how it is run."""
    rows = "\n".join(f"| {label.value} | {label.name} |" for label in contract.labels)
    channels = "\n".join(
        f"{number}. {channel.name} (normalised by {channel.normalisation})"
        for number, channel in enumerate(contract.image.channels, 1)
    )
    return Template(read_file("README.md")).substitute(
        name=plan.dataset or "Segmentation",
        networks=_networks(contract),
        dims=contract.image.dims,
        version=__version__,
        channels=channels,
        rows=rows,
    )


def read_file(name: str) -> str:
    """Return a text of the folder ``files``, which a bundle has as it is, or filled in."""
    return resources.files(__package__).joinpath("files").joinpath(name).read_text(encoding="utf-8")


def _networks(contract: Contract) -> str:
    names = " and ".join(dict.fromkeys(network.name for network in contract.networks))
    count = len(contract.networks)
    return f"The network {names}" if count == 1 else f"The mean of {number_of(count, 'network')} ({names})"


def _values(contract: Contract) -> str:
    return ", ".join(f"{label.value} is {plain(label.name)}" for label in contract.labels)


def _format(contract: Contract) -> dict[str, Any]:
    image, model = contract.image, contract.model
    tensor = {"type": "image", "spatial_shape": list(contract.windows.size), "dtype": "float32", "value_range": []}
    hounsfield = any(channel.normalisation == "ct" for channel in image.channels)
    return {
        "inputs": {
            "image": {
                **tensor,
                "format": "hounsfield" if hounsfield else "magnitude",
                "num_channels": len(image.channels),
                "is_patch_data": True,
                "channel_def": {str(n): plain(channel.name) for n, channel in enumerate(image.channels)},
            }
        },
        "outputs": {
            "pred": {
                **tensor,
                "format": "segmentation",
                "num_channels": model.networks * model.maps,
                "is_patch_data": True,
                "channel_def": {str(label.value): plain(label.name) for label in contract.labels},
            }
        },
    }
