"""Read and write cases on disk: geometry, label maps, datasets, splits, checks and a demo dataset."""

from deconvseg.data.axes import Axes
from deconvseg.data.bids_names import list_bids_masks
from deconvseg.data.boxes import bounding_box, nonzero_box
from deconvseg.data.cache import prepare_cases
from deconvseg.data.cache_entries import PreparedCase
from deconvseg.data.checks.checking import check_dataset
from deconvseg.data.checks.dataset_report import DatasetReport
from deconvseg.data.checks.label_findings import (
    common_labels,
    describe_absent_class,
    find_absent_classes,
    find_label_problems,
)
from deconvseg.data.checks.leaks import find_leaks
from deconvseg.data.colours import class_colours, colour_numbers, default_colour, is_rgb, parse_colour
from deconvseg.data.converting.converting import Conversion, convert, list_targets
from deconvseg.data.dataset import (
    Case,
    Dataset,
    Exclusion,
    Problem,
    Region,
    describe_excluded,
    list_names,
    report_problems,
)
from deconvseg.data.demo import list_demos, make_demo_dataset
from deconvseg.data.file_names import case_stem, is_image_file
from deconvseg.data.formats.itk import image_from_itk
from deconvseg.data.formats.reader import Reader, Segment
from deconvseg.data.formats.registry import (
    has_own_grids,
    image_suffixes,
    is_picture,
    list_readers,
    register_reader,
    unregister_reader,
)
from deconvseg.data.formats.series_choice import SeriesChoice
from deconvseg.data.geometry import AxisOrder, Geometry
from deconvseg.data.grids import check_same_grid
from deconvseg.data.headers import read_header
from deconvseg.data.json_files import read_json, read_json_object
from deconvseg.data.labels.declared import DeclaredLabels, LabelEntry, declare_labels, label_entries, parse_label
from deconvseg.data.labels.encoding import WHITE, LabelEncoding, align_white, count_values
from deconvseg.data.labels.label_files import parse_labels, read_label_file
from deconvseg.data.labels.mask_values import read_mask
from deconvseg.data.labels.painting import Paint, check_painting, painting_order
from deconvseg.data.labels.region_files import RegionFiles
from deconvseg.data.labels.segments import read_mask_pair
from deconvseg.data.labels.sources import MaskPart, MaskSource
from deconvseg.data.layouts.bids_writing import bids_mask_paths, write_bids_description
from deconvseg.data.layouts.excluding import match_exclusions, read_exclusions
from deconvseg.data.layouts.inputs import find_masks_beside, is_images_folder, open_images
from deconvseg.data.layouts.left_out import find_left_out
from deconvseg.data.layouts.opening import is_dataset, open_dataset
from deconvseg.data.layouts.patterns import has_patterns
from deconvseg.data.layouts.proposing import propose_patterns
from deconvseg.data.layouts.registry import Layout, list_layouts, register_layout, unregister_layout
from deconvseg.data.listing import find_splits, list_image_files
from deconvseg.data.normalisation import Normalisation, NormalisationKind
from deconvseg.data.patches.augmentation import Augment, Augmentation, Probability
from deconvseg.data.patches.sampling import CaseDataset, EpochSampler, PatchDataset, Sample, finish
from deconvseg.data.places import find_beside, name_beside
from deconvseg.data.preprocessing import (
    Preprocessing,
    match_channels,
    preprocess_image,
    preprocess_labels,
    resampled_shape,
)
from deconvseg.data.reading import read_image, read_label_map
from deconvseg.data.recording import check_dataset_unchanged, file_sha256, file_state, record_dataset
from deconvseg.data.resampling import Resampling, nearest_voxels
from deconvseg.data.splits.folds import make_folds, make_stratified_folds
from deconvseg.data.splits.groups import group_cases
from deconvseg.data.splits.reading import Splits, read_folds, read_splits, select_split
from deconvseg.data.splits.resolving import resolve_folds, resolve_splits
from deconvseg.data.splits.strata import measure_foreground
from deconvseg.data.tables import read_column, write_table
from deconvseg.data.types import Header, Image, LabelMap
from deconvseg.data.writing import mask_suffix, write_label_map, write_shares
from deconvseg.system import former_names

__all__ = [
    "WHITE",
    "Augment",
    "Augmentation",
    "Axes",
    "AxisOrder",
    "Case",
    "CaseDataset",
    "Conversion",
    "Dataset",
    "DatasetReport",
    "DeclaredLabels",
    "EpochSampler",
    "Exclusion",
    "Geometry",
    "Header",
    "Image",
    "LabelEncoding",
    "LabelEntry",
    "LabelMap",
    "Layout",
    "MaskPart",
    "MaskSource",
    "Normalisation",
    "NormalisationKind",
    "Paint",
    "PatchDataset",
    "PreparedCase",
    "Preprocessing",
    "Probability",
    "Problem",
    "Reader",
    "Region",
    "RegionFiles",
    "Resampling",
    "Sample",
    "Segment",
    "SeriesChoice",
    "Splits",
    "align_white",
    "bids_mask_paths",
    "bounding_box",
    "case_stem",
    "check_dataset",
    "check_dataset_unchanged",
    "check_painting",
    "check_same_grid",
    "class_colours",
    "colour_numbers",
    "common_labels",
    "convert",
    "count_values",
    "declare_labels",
    "default_colour",
    "describe_absent_class",
    "describe_excluded",
    "file_sha256",
    "file_state",
    "find_absent_classes",
    "find_beside",
    "find_label_problems",
    "find_leaks",
    "find_left_out",
    "find_masks_beside",
    "find_splits",
    "finish",
    "group_cases",
    "has_own_grids",
    "has_patterns",
    "image_from_itk",
    "image_suffixes",
    "is_dataset",
    "is_image_file",
    "is_images_folder",
    "is_picture",
    "is_rgb",
    "label_entries",
    "list_bids_masks",
    "list_demos",
    "list_image_files",
    "list_layouts",
    "list_names",
    "list_readers",
    "list_targets",
    "make_demo_dataset",
    "make_folds",
    "make_stratified_folds",
    "mask_suffix",
    "match_channels",
    "match_exclusions",
    "measure_foreground",
    "name_beside",
    "nearest_voxels",
    "nonzero_box",
    "open_dataset",
    "open_images",
    "painting_order",
    "parse_colour",
    "parse_label",
    "parse_labels",
    "prepare_cases",
    "preprocess_image",
    "preprocess_labels",
    "propose_patterns",
    "read_column",
    "read_exclusions",
    "read_folds",
    "read_header",
    "read_image",
    "read_json",
    "read_json_object",
    "read_label_file",
    "read_label_map",
    "read_mask",
    "read_mask_pair",
    "read_splits",
    "record_dataset",
    "register_layout",
    "register_reader",
    "report_problems",
    "resampled_shape",
    "resolve_folds",
    "resolve_splits",
    "select_split",
    "unregister_layout",
    "unregister_reader",
    "write_bids_description",
    "write_label_map",
    "write_shares",
    "write_table",
]

__getattr__ = former_names(__name__, {"IMAGE_SUFFIXES": (image_suffixes, "call image_suffixes()")})
