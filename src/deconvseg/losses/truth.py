"""Ground truth in the forms that losses need: masks of structures, and the voxels that are not ignored."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class Truth:
    """Ground truth for logits (B, K, \\*S): class ids (B, \\*S) and masks derived from them, each computed once.

    Attributes:
        labels: class ids (B, \\*S), 0 in ignored voxels.
        judged: mask of the voxels that are not ignored (B, \\*S); None if none is ignored.

    Example:
        >>> import torch
        >>> from deconvseg.losses import Truth
        >>> truth = Truth(torch.tensor([[[0, 1, 2]]]), outputs=3, regions=None, ignore_id=None)
        >>> truth.masks()
        tensor([[[[0., 1., 0.]],
                 [[0., 0., 1.]]]])

    """

    def __init__(
        self, labels: Tensor, outputs: int, regions: Sequence[Sequence[int]] | None, ignore_id: int | None
    ) -> None:
        # PyTorch's classification functions need 64-bit integers.
        labels = labels.long()
        self.judged = None if ignore_id is None else labels != ignore_id
        self.labels = labels if self.judged is None else labels.where(self.judged, 0)
        self._outputs, self._regions = outputs, regions
        self._masks: dict[bool, Tensor] = {}

    def masks(self, background: bool = False) -> Tensor:
        """Return float32 masks (B, N, \\*S) of the structures: the regions, or the classes with or without background.

        Ignored voxels count as background.
        """
        if background not in self._masks:
            if self._regions is None:
                classes = F.one_hot(self.labels, self._outputs).movedim(-1, 1)
                self._masks[background] = classes[:, 0 if background else 1 :].to(torch.float32)
            else:
                self._masks[background] = region_masks(self.labels, self._regions)
        return self._masks[background]


def region_masks(labels: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Return float32 masks (B, R, \\*S), one per region (a union of class ids), from class ids (B, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.losses import region_masks
        >>> region_masks(torch.tensor([[[0, 1, 2]]]), [(1, 2), (2,)])
        tensor([[[[0., 1., 1.]],
                 [[0., 0., 1.]]]])

    """
    members = [torch.isin(labels, torch.tensor(ids, device=labels.device)) for ids in regions]
    return torch.stack(members, dim=1).to(torch.float32)


def resized(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Return class ids (B, \\*S) resampled to another shape by nearest-neighbour interpolation."""
    if labels.shape[1:] == tuple(shape):
        return labels
    return F.interpolate(labels[:, None].float(), tuple(shape), mode="nearest-exact")[:, 0].long()
