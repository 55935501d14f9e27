"""Files on disk to cases and back: geometry, label maps, datasets, splits, checks, the demo set."""

from deconvseg.data.augmentation import MonaiAugment
from deconvseg.data.cache import PreparedCase, prepare_cases
from deconvseg.data.checking import check_dataset, scan_label_values
from deconvseg.data.dataset import Case, Dataset, Problem, Region
from deconvseg.data.dataset_report import DatasetReport
from deconvseg.data.demo import make_demo_dataset
from deconvseg.data.geometry import AxisOrder, Geometry
from deconvseg.data.labels import LabelEncoding
from deconvseg.data.layouts import open_dataset, open_images
from deconvseg.data.patches import CaseDataset, EpochSampler, PatchDataset
from deconvseg.data.preprocessing import (
    Normalisation,
    match_channels,
    preprocess_image,
    preprocess_labels,
    restore,
)
from deconvseg.data.reading import IMAGE_SUFFIXES, Reader, case_stem, read_image, read_label_map
from deconvseg.data.splits import Splits, make_folds, read_splits, resolve_splits
from deconvseg.data.types import Image, LabelMap
from deconvseg.data.writing import atomic_write, mask_suffix, write_label_map

__all__ = [
    "IMAGE_SUFFIXES",
    "AxisOrder",
    "Case",
    "CaseDataset",
    "Dataset",
    "DatasetReport",
    "EpochSampler",
    "Geometry",
    "Image",
    "LabelEncoding",
    "LabelMap",
    "MonaiAugment",
    "Normalisation",
    "PatchDataset",
    "PreparedCase",
    "Problem",
    "Reader",
    "Region",
    "Splits",
    "atomic_write",
    "case_stem",
    "check_dataset",
    "make_demo_dataset",
    "make_folds",
    "mask_suffix",
    "match_channels",
    "open_dataset",
    "open_images",
    "prepare_cases",
    "preprocess_image",
    "preprocess_labels",
    "read_image",
    "read_label_map",
    "read_splits",
    "resolve_splits",
    "restore",
    "scan_label_values",
    "write_label_map",
]
