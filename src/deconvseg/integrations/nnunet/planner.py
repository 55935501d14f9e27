"""nnU-Net's planner with another network: its own choices for the data, our estimate of the memory."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from nnunetv2.utilities import utils
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from deconvseg.integrations.nnunet.drafting import Draft, Drafting, Stages, gigabytes
from deconvseg.integrations.nnunet.installed import nnunet_folder
from deconvseg.system import write_text

# What decides how a configuration's cases are preprocessed; plans with the same values share the files.
_PREPROCESSING = (
    *("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm"),
    *("resampling_fn_data", "resampling_fn_seg", "resampling_fn_data_kwargs", "resampling_fn_seg_kwargs"),
)
_Json = Mapping[str, Any]
_PLANNED = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
_OWN_PLANS = "nnUNetPlans"


class DeconvsegPlanner(ExperimentPlanner):  # type: ignore[misc]
    """nnU-Net's default planner with another network."""

    def __init__(self, dataset: str, drafting: Drafting, plans: str, gigabytes_allowed: float) -> None:
        super().__init__(dataset, gpu_memory_target_in_gb=gigabytes_allowed, plans_name=plans)
        self._drafting = drafting
        # The number of the chosen size, while nnU-Net's planner asks for the memory of it.
        self._chosen: int | None = None
        self._values: dict[tuple[int, tuple[int, ...], Stages], float] = {}
        self.gigabytes: dict[str, float] = {}
        self.labels: dict[str, str] = {}

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """Return nnU-Net's configuration with the network, the patch and the batch that fit the memory.

        The size is the widest that fits with the patch of nnU-Net's own network, else the narrowest, and the patch is
        made smaller, as nnU-Net does.
        """
        asked = spacing, median_shape, data_identifier, approximate_n_voxels_dataset
        own: dict[str, Any] = super().get_plans_for_configuration(*asked, {})
        most = self._most(len(spacing))
        drafts = self._drafts(own["patch_size"], own["architecture"])
        fitting = [index for index in range(len(drafts)) if self._measure(index, drafts[index], own) <= most]
        self._chosen = max(fitting, default=0)
        try:
            plan: dict[str, Any] = super().get_plans_for_configuration(*asked, {})
            draft = self._drafts(plan["patch_size"], plan["architecture"])[self._chosen]
            values = self._measure(self._chosen, draft, plan)
        finally:
            self._chosen = None
        name = data_identifier.removeprefix(f"{self.plans_identifier}_")
        usual = self.UNet_reference_val_corresp_bs_2d if len(spacing) == 2 else self.UNet_reference_val_corresp_bs_3d
        self.labels[name] = draft.label
        self.gigabytes[name] = gigabytes(values, plan["batch_size"], most, usual, self.UNet_vram_target_GB)
        return {**plan, "patch_size": list(draft.patch), "architecture": dict(draft.architecture)}

    def static_estimate_VRAM_usage(  # noqa: N802
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: Mapping[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Return the memory of the chosen size, or of nnU-Net's own network, in nnU-Net's measure."""
        if self._chosen is None:
            # Nothing is computed with the network that nnU-Net builds.
            with torch.device("meta"):
                own: float = super().static_estimate_VRAM_usage(
                    patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import
                )
            return own
        architecture = {"arch_kwargs": arch_kwargs, "_kw_requires_import": arch_kwargs_req_import}
        draft = self._drafts(patch_size, architecture)[self._chosen]
        return self._measure(self._chosen, draft, {"architecture": architecture})

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Return a name of preprocessed data; :meth:`save_plans` replaces it where nnU-Net's own data can be used."""
        return f"{self.plans_identifier}_{configuration_name}"

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans, with further configurations that were added to the file by hand."""
        recursive_fix_for_json_export(plans)
        folder = nnunet_folder("nnUNet_preprocessed") / plans["dataset_name"]
        own = _read(folder / f"{_OWN_PLANS}.json")
        for name, configuration in plans["configurations"].items():
            if "data_identifier" in configuration and (shared := _shared(name, configuration, plans, own)):
                configuration["data_identifier"] = shared
        file = folder / f"{plans['plans_name']}.json"
        before = _read(file).get("configurations", {})
        added = {name: entry for name, entry in before.items() if name not in _PLANNED}
        plans["configurations"] = {**plans["configurations"], **added}
        write_text(file, json.dumps(plans, indent=4) + "\n")

    def _drafts(self, patch: Sequence[int], architecture: Mapping[str, Any]) -> list[Draft]:
        return self._drafting.drafts(Stages.of(architecture["arch_kwargs"]), patch, architecture)

    def _measure(self, index: int, draft: Draft, plan: Mapping[str, Any]) -> float:
        key = index, draft.patch, Stages.of(plan["architecture"]["arch_kwargs"])
        if key not in self._values:
            description: Mapping[str, Any] = self.dataset_json
            channels = len(description.get("channel_names") or description["modality"])
            self._values[key] = draft.values(channels, len(description["labels"]))
        return self._values[key]

    def _most(self, dims: int) -> float:
        """Return the memory of one sample, in nnU-Net's measure, that allows nnU-Net's smallest batch."""
        reference: float = self.UNet_reference_val_2d if dims == 2 else self.UNet_reference_val_3d
        share: float = self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        return reference * share


class DeconvsegResEncPlanner(DeconvsegPlanner, ResEncUNetPlanner):  # type: ignore[misc]
    """nnU-Net's planner of residual encoders with another upsampling."""


def create_planner(dataset: str, drafting: Drafting, plans: str, gigabytes_allowed: float) -> DeconvsegPlanner:
    """Return the planner for a dataset of nnU-Net."""
    kind = DeconvsegResEncPlanner if drafting.model == "ResidualEncoderUNet" else DeconvsegPlanner
    # nnU-Net lists the images in forked processes, and a fork of a process with PyTorch's threads can hang.
    forked, utils.Pool = utils.Pool, ThreadPool
    try:
        return kind(dataset, drafting, plans, gigabytes_allowed)
    finally:
        utils.Pool = forked


def write_plans(planner: DeconvsegPlanner) -> None:
    """Plan and write the plans, without what nnU-Net prints of them."""
    with contextlib.redirect_stdout(io.StringIO()):
        planner.plan_experiment()


def _shared(name: str, configuration: _Json, plans: _Json, own: _Json) -> str | None:
    """Return the name of nnU-Net's own data of a configuration, if they are preprocessed in the same way."""
    if not own:
        return f"{_OWN_PLANS}_{name}" if name in ("2d", "3d_fullres") else None
    other = own["configurations"].get(name, {})
    same = all(configuration.get(key) == other.get(key) for key in _PREPROCESSING)
    if not same or own["transpose_forward"] != plans["transpose_forward"]:
        return None
    identifier: str = other["data_identifier"]
    return identifier


def _read(file: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return content
