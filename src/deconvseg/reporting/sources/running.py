"""The deconvolutions of a network in one run of it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError
from deconvseg.reporting.sources.maps import SourceMap

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deconvseg.nn import NDC


def source_maps(model: "nn.Module", image: "npt.NDArray[Any] | Tensor", slice: int | None = None) -> list[SourceMap]:
    """Run a model once on an image and return what each of its :class:`~deconvseg.nn.NDC` layers does, as called.

    ``image`` is (C, \\*S) or (1, C, \\*S), 2D or 3D, preprocessed as the network takes it; the model is not changed.
    ``slice`` is the axial slice of a 3D image that the maps keep, by default the middle. Raises
    :class:`~deconvseg.errors.InputError` for a model without such layers and for an image that it cannot take.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.reporting import source_maps
        >>> network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8]).eval()
        >>> [found.layer for found in source_maps(network, torch.rand(1, 1, 32, 32))]
        ['encoder.0.blocks.0.mixer.ndc', 'encoder.1.blocks.0.mixer.ndc', 'decoder.0.blocks.0.mixer.ndc']

    """
    import torch

    from deconvseg.nn import NDC
    from deconvseg.nn.observing import at_rest, reference_tensor, unchanged, watched
    from deconvseg.system import FOREIGN_ERRORS, first_line

    layers = {module: path for path, module in model.named_modules() if isinstance(module, NDC)}
    if not layers:
        raise InputError("the model has no nonnegative deconvolution (nn.NDC): give a Deconver")
    axes = next(iter(layers)).filters.ndim - 2
    batch = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).detach().float()
    batch = batch[None] if batch.ndim == axes + 1 else batch
    if batch.ndim != axes + 2 or len(batch) != 1:
        raise InputError(f"the image has the shape {tuple(image.shape)}: give one, (C, *S) with {axes} spatial axes")
    level = _level(slice, batch)
    found: dict[str, SourceMap] = {}

    def keep(module: "NDC", args: "tuple[Tensor, ...]", kwargs: "dict[str, Tensor]", source: "Tensor") -> None:
        x = args[0] if args else kwargs["x"]
        found[layers[module]] = SourceMap.of(layers[module], module, x, source, level)

    with unchanged(model), at_rest(model), watched(layers, enter=lambda *_: None, leave=keep):
        try:
            like = reference_tensor(model)
            model(batch if like is None else batch.to(like))
        except FOREIGN_ERRORS as error:
            raise InputError(
                f"the model cannot be run on an image {tuple(batch.shape)}: {first_line(error)}"
            ) from error
    return list(found.values())


def _level(slice: int | None, batch: "Tensor") -> float | None:
    """Return the place of the axial slice that is kept, as a share of its axis, and None in 2D."""
    if batch.ndim < 5:
        if slice is not None:
            raise InputError(f"slice={slice}: a 2D image has none")
        return None
    count = batch.shape[-1]
    slice = count // 2 if slice is None else slice
    if not 0 <= slice < count:
        raise InputError(f"slice={slice}: the image has 0 to {count - 1}")
    return (slice + 0.5) / count
