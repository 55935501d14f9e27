"""The folder of results of nnU-Net v2: plans, dataset and checkpoints of a trained configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from deconvseg.data import read_json_object
from deconvseg.errors import InputError, check_choice
from deconvseg.runs import check_entries
from deconvseg.system import does_not_exist

FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"
_PLANS, _DATASET = "plans.json", "dataset.json"


class Configuration(BaseModel):
    """The entries of a configuration of nnU-Net's plans that decide its predictions."""

    model_config = ConfigDict(extra="ignore", strict=True)

    preprocessor_name: str = "DefaultPreprocessor"
    patch_size: list[int]
    spacing: list[float]
    batch_size: int = 2
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = {"force_separate_z": None}
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = {"order": 1, "force_separate_z": None}
    architecture: dict[str, Any]
    previous_stage: str | None = None


class _Former(BaseModel):
    """The entries of a configuration before nnU-Net 2.3 that describe its network."""

    model_config = ConfigDict(extra="ignore", strict=True)

    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    patch_size: list[int]
    n_conv_per_stage_encoder: list[int]
    n_conv_per_stage_decoder: list[int]
    conv_kernel_sizes: list[list[int]]
    pool_op_kernel_sizes: list[list[int]]


class Intensities(BaseModel):
    """The foreground statistics of a channel."""

    model_config = ConfigDict(extra="ignore")

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Plans(BaseModel):
    """The entries of nnU-Net's plans, apart from their configurations."""

    model_config = ConfigDict(extra="ignore", strict=True)

    dataset_name: str
    plans_name: str = "nnUNetPlans"
    image_reader_writer: str
    transpose_forward: list[int]
    original_median_spacing_after_transp: Annotated[list[float], Field(min_length=3, max_length=3)]
    label_manager: str = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, dict[str, Any]] = {}
    configurations: dict[str, dict[str, Any]]


class Labels(BaseModel):
    """The entries of nnU-Net's ``dataset.json`` that decide its predictions."""

    model_config = ConfigDict(extra="ignore", strict=True)

    labels: dict[str, int | list[int]]
    channel_names: dict[str, str]
    regions_class_order: list[int] | None = None
    file_ending: str = ".nii.gz"


@dataclass(frozen=True)
class Fold:
    """The checkpoints of a fold: ``name`` is its number or "all", ``best`` is None if it has no such checkpoint."""

    name: str
    final: Path
    best: Path | None

    @property
    def folder(self) -> Path:
        """The folder of the fold."""
        return self.final.parent

    @property
    def validated(self) -> list[str]:
        """The cases of its validation, by the masks in its folder; empty if there are none."""
        found = (self.folder / "validation").glob("*.*")
        images = [path.name for path in found if path.suffix not in (".json", ".npz", ".pkl")]
        return sorted({name.removesuffix(".gz").rpartition(".")[0] for name in images})


@dataclass(frozen=True)
class Results:
    """A trained configuration of nnU-Net: ``folder`` holds plans.json, dataset.json and a folder for each fold."""

    folder: Path
    plans: Plans
    labels: Labels
    folds: tuple[Fold, ...]

    @classmethod
    def open(cls, folder: Path, folds: Sequence[int | str] | None = None) -> Results:
        """Open a folder ``DATASET/TRAINER__PLANS__CONFIGURATION``, with all of its numbered folds or the given ones.

        Raises :class:`~deconvseg.errors.InputError` for another folder, an entry of a wrong type, and missing folds.
        """
        _check_folder(folder)
        plans = _current_plans(read_json_object(folder / _PLANS))
        check_entries(folder / _PLANS, plans, Plans)
        labels = read_json_object(folder / _DATASET)
        # The name of the channels in older datasets.
        labels = {**labels, "channel_names": labels.get("channel_names", labels.get("modality"))}
        check_entries(folder / _DATASET, labels, Labels)
        return cls(folder, Plans.model_validate(plans), Labels.model_validate(labels), _find_folds(folder, folds))

    def configuration(self, name: str) -> Configuration:
        """Return a configuration by name, with what it inherits from others."""
        where = self.folder / _PLANS
        tree = _with_architecture(_inherited(self.plans.configurations, name, where), where)
        check_entries(where, tree, Configuration)
        return Configuration.model_validate(tree)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{does_not_exist(folder)}; give a folder of nnU-Net's results")
    if (folder / _PLANS).is_file() and (folder / _DATASET).is_file():
        return
    inside = sorted(path.parent.name for path in folder.glob(f"*/{_PLANS}"))
    if inside:
        raise InputError(f"{folder}: holds several results; give one of {', '.join(inside)} in it")
    if list(folder.glob("*/plans.pkl")) or (folder / "plans.pkl").is_file():
        raise InputError(f"{folder}: of nnU-Net v1, whose plans are pickled; only results of nnU-Net v2 are read")
    missing = next(name for name in (_PLANS, _DATASET) if not (folder / name).is_file())
    raise InputError(
        f"{folder}: has no {missing}; give the folder TRAINER__PLANS__CONFIGURATION that nnUNetv2_train made"
    )


def finished_folds(folder: Path) -> dict[str, Path]:
    """Return the final checkpoints in a folder of results, by the names of their folds."""
    return {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{FINAL}"))}


def _find_folds(folder: Path, asked: Sequence[int | str] | None) -> tuple[Fold, ...]:
    """Return the folds with a final checkpoint: the numbered ones, else the one of all cases, or those given."""
    trained = finished_folds(folder)
    numbered = sorted((name for name in trained if name.isdecimal()), key=int)
    names = (numbered or list(trained)) if asked is None else [str(name) for name in asked]
    if not names:
        begun = sorted(path.name for path in folder.glob("fold_*"))
        raise InputError(
            f"{folder}: no fold has a {FINAL}"
            + (f" ({', '.join(begun)} did not finish); finish the training" if begun else "; train a fold first")
        )
    if missing := [name for name in names if name not in trained]:
        there = ", ".join(sorted(trained)) or "none"
        raise InputError(f"{folder}: fold {missing[0]} has no {FINAL}; finished folds: {there}")
    best = {name: trained[name].with_name(BEST) for name in names}
    return tuple(Fold(name, trained[name], best[name] if best[name].is_file() else None) for name in names)


def _inherited(configurations: Mapping[str, Mapping[str, Any]], name: str, where: Path) -> dict[str, Any]:
    """Return a configuration with the entries of those that it inherits from."""
    chain: list[str] = []
    following: Any = name
    while following is not None:
        check_choice(str(following), configurations, f"{where}: configuration")
        if following in chain:
            raise InputError(f"{where}: configurations inherit from each other in a circle: {' from '.join(chain)}")
        chain.append(following)
        following = configurations[following].get("inherits_from")
    tree: dict[str, Any] = {}
    for one in reversed(chain):
        tree.update(configurations[one])
    return tree


def _current_plans(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans with the present name of an entry that had another one."""
    former, name = "foreground_intensity_properties_by_modality", "foreground_intensity_properties_per_channel"
    return {**plans, name: plans.get(name, plans.get(former, {}))}


def _with_architecture(tree: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Return a configuration with its architecture as an entry; before nnU-Net 2.3 its parts were entries."""
    if "architecture" in tree or "UNet_class_name" not in tree:
        return dict(tree)
    check_entries(where, tree, _Former)
    former = _Former.model_validate(tree)
    kind, dims, stages = former.UNet_class_name, len(former.patch_size), len(former.n_conv_per_stage_encoder)
    first, most = former.UNet_base_num_features, former.unet_max_num_features
    per_stage = "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage"
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(first * 2**stage, most) for stage in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": former.conv_kernel_sizes,
        "strides": former.pool_op_kernel_sizes,
        per_stage: former.n_conv_per_stage_encoder,
        "n_conv_per_stage_decoder": former.n_conv_per_stage_decoder,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = f"dynamic_network_architectures.architectures.unet.{kind}"
    return {**tree, "architecture": {"network_class_name": name, "arch_kwargs": arguments}}
