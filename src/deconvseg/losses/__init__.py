"""Segmentation losses, usable directly or by name in a recipe.

All losses are modules that take logits (B, K, *S) and class ids (B, *S), and return a scalar.
"""

from deconvseg.losses.base import SegmentationLoss
from deconvseg.losses.overlap import CLDiceLoss, DiceLoss, OverlapLoss, TverskyLoss
from deconvseg.losses.registry import list_losses, register_loss
from deconvseg.losses.specs import LossSpec, create_loss
from deconvseg.losses.sums import DeepSupervision, DiceCELoss, SumLoss
from deconvseg.losses.truth import Truth, region_masks
from deconvseg.losses.voxelwise import CrossEntropyLoss, FocalLoss, HausdorffLoss

__all__ = [
    "CLDiceLoss",
    "CrossEntropyLoss",
    "DeepSupervision",
    "DiceCELoss",
    "DiceLoss",
    "FocalLoss",
    "HausdorffLoss",
    "LossSpec",
    "OverlapLoss",
    "SegmentationLoss",
    "SumLoss",
    "Truth",
    "TverskyLoss",
    "create_loss",
    "list_losses",
    "region_masks",
    "register_loss",
]
