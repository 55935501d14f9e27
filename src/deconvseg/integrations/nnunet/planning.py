"""Plans for nnU-Net v2 with a network of this package, or with DTC in nnU-Net's own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.integrations.nnunet.drafting import Drafting
from deconvseg.integrations.nnunet.installed import READS_NETWORKS, check_nnunet, find_dataset, nnunet_folder
from deconvseg.options import takes
from deconvseg.options.nnunet import NNUNetPlanOptions
from deconvseg.progress import choose_console

# What nnU-Net plans for.
_GIGABYTES = 8.0


@dataclass(frozen=True)
class NNUNetConfiguration:
    """One configuration of plans for nnU-Net.

    Attributes:
        name: nnU-Net's name of it, such as ``3d_fullres``.
        network: the size of the network.
        patch_size: size of a patch in nnU-Net's order of axes.
        batch_size: patches per step.
        gigabytes: estimated GPU memory of a training.
        data: folder of the preprocessed cases.
        preprocessed: whether the folder holds all training cases.

    """

    name: str
    network: str
    patch_size: tuple[int, ...]
    batch_size: int
    gigabytes: float
    data: Path
    preprocessed: bool


@dataclass(frozen=True)
class NNUNetPlan:
    """Plans that nnU-Net's own commands take by name: their file, their name, and their configurations."""

    file: Path
    name: str
    dataset: str
    configurations: Sequence[NNUNetConfiguration]

    @property
    def number(self) -> int:
        """The number of the dataset."""
        return int(self.dataset[7:10])


@takes(NNUNetPlanOptions)
def plan_for_nnunet(asked: NNUNetPlanOptions) -> NNUNetPlan:
    """Write plans with which nnU-Net's own commands train and use a network of this package by the name of the plans.

    nnU-Net's planner chooses spacing, normalisation, stages, patch and batch as for its own network; the memory is that
    of the network, with the tensors that NDC keeps. The network is the widest of its usual sizes that fits the memory
    with the patch of nnU-Net's own; if none does, the patch of the narrowest is made smaller. Cases that nnU-Net
    preprocessed for ``nnUNetPlans`` are used again where the preprocessing is the same.

    nnU-Net finds its folders by ``nnUNet_raw`` and ``nnUNet_preprocessed``, and the dataset must have its fingerprint.
    Raises :class:`~deconvseg.errors.MissingPackageError` without ``nnunetv2``, and
    :class:`~deconvseg.errors.InputError` for a version before 2.3.1, a dataset that is not there, and a network that
    does not fit the data.

    Example:
        >>> from deconvseg.integrations.nnunet import plan_for_nnunet
        >>> plan = plan_for_nnunet(4, model="deconver", upsampling="dtc+transposed")  # doctest: +SKIP
        >>> [configuration.name for configuration in plan.configurations]  # doctest: +SKIP
        ['2d', '3d_fullres']

    """
    check_nnunet(READS_NETWORKS, "a plan for nnU-Net")
    drafting = Drafting(asked.model, asked.upsampling, asked.width)
    dataset = find_dataset(asked.dataset)
    if asked.plans == "nnUNetPlans":
        raise InputError("`plans='nnUNetPlans'` are nnU-Net's own: give another name")
    described = nnunet_folder("nnUNet_raw") / dataset / "dataset.json"
    cases = read_json_object(described).get("numTraining")
    if not isinstance(cases, int):
        raise InputError(f"{described}: has no 'numTraining', a whole number of training cases; add it")
    if os.environ.get("nnUNet_n_proc_DA") == "0":  # noqa: SIM112
        raise InputError("nnUNet_n_proc_DA=0: nnU-Net plans with 1 or more only; set it to 1 for this command")
    from deconvseg.integrations.nnunet.planner import create_planner, write_plans

    allowed = _GIGABYTES if asked.memory is None else asked.memory / 1e9
    planner = create_planner(dataset, drafting, asked.plans, allowed)
    with choose_console(asked.console).track(f"planning {asked.model} for {dataset}"):
        write_plans(planner)
    folder = nnunet_folder("nnUNet_preprocessed") / dataset
    file = folder / f"{asked.plans}.json"
    written = json.loads(file.read_text())
    made = []
    for name, label in planner.labels.items():
        if (entry := written["configurations"].get(name)) is not None:
            data = folder / entry["data_identifier"]
            patch = tuple(entry["patch_size"])
            done = len(list(data.glob("*.pkl"))) >= cases
            memory = planner.gigabytes[name]
            made.append(NNUNetConfiguration(name, label, patch, entry["batch_size"], memory, data, done))
    return NNUNetPlan(file, asked.plans, dataset, made)
