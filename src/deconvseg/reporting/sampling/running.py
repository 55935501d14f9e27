"""The sampling positions of a learned upsampling in one run of its model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import DeconvsegError, InputError, check_choice
from deconvseg.reporting.sampling.maps import Array, SamplingMap
from deconvseg.text import number_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deconvseg.nn.upsampling import SamplingLayer


def sampling_map(
    model: "nn.Module",
    image: "npt.NDArray[Any] | Tensor",
    layer: str | None = None,
    slice: int | None = None,
    *,
    stage: int | None = None,
) -> SamplingMap:
    """Run a model once on an image and return where one of its learned upsamplings samples (DTC's Fig. 7).

    ``model`` is any network with a :class:`~deconvseg.nn.DTC`, a :class:`~deconvseg.nn.DySample` or another
    :class:`~deconvseg.nn.upsampling.SamplingLayer`, including upgraded networks; it is not changed. ``image`` is
    (C, \\*S) or (1, C, \\*S), 2D or 3D, preprocessed as the network takes it.
    ``layer`` is the path of the layer, by default of the last that is called, or of the last of a ``stage``: stages are
    the resolutions of such layers, 1 the first that is called (the lowest resolution in a U-shaped network). ``slice``
    is the axial slice that a 3D figure shows, by default the middle. Raises :class:`~deconvseg.errors.InputError` for a
    model without such a layer, an unknown path, with the nearest ones, a layer or stage that is not used, and an image
    of another shape.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.reporting import sampling_map
        >>> network = create_model(
        ...     "unet", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8], upsampling="dtc"
        ... ).eval()
        >>> found = sampling_map(network, torch.rand(1, 1, 32, 32))
        >>> found.layer
        'decoder.0.upsampling'

    """
    from deconvseg.nn.upsampling import SamplingLayer

    layers = {path: module for path, module in model.named_modules() if isinstance(module, SamplingLayer)}
    if not layers:
        raise InputError(
            "the model has no upsampling with learned positions: build it with upsampling='dtc+linear', or change it "
            "by nn.upgrade_upsampling(model)"
        )
    if layer is not None and stage is not None:
        raise InputError("`layer` and `stage` both choose the layer; give one of them")
    if layer is not None:
        check_choice(layer, layers, "layer")
    batch = _batch_of_one(image, axes=len(next(iter(layers.values())).scale))
    if batch.ndim == 5:
        slice = batch.shape[-1] // 2 if slice is None else slice
        if not 0 <= slice < batch.shape[-1]:
            raise InputError(f"slice={slice}: the image has 0 to {batch.shape[-1] - 1}")
    elif slice is not None:
        raise InputError(f"slice={slice}: a 2D image has none")
    path, size, positions = _run(model, layers, batch, layer, stage)
    return SamplingMap(path, batch[0].cpu().numpy(), positions, size, layers[path].scale, slice)


def _batch_of_one(image: "npt.NDArray[Any] | Tensor", axes: int) -> "Tensor":
    import torch

    # PyTorch accepts no array with negative strides, such as a flipped one.
    batch = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).detach().float()
    batch = batch[None] if batch.ndim == axes + 1 else batch
    if batch.ndim != axes + 2 or len(batch) != 1:
        raise InputError(f"the image has the shape {tuple(image.shape)}: give one, (C, *S) with {axes} spatial axes")
    return batch


def _run(
    model: "nn.Module", layers: "Mapping[str, SamplingLayer]", batch: "Tensor", layer: str | None, stage: int | None
) -> tuple[str, tuple[int, ...], Array]:
    """Run the model; return the path of the layer (by default the last called), its input size and its positions."""
    from deconvseg.nn.observing import at_rest, reference_tensor, unchanged, watched
    from deconvseg.system import FOREIGN_ERRORS, first_line

    like = reference_tensor(model)
    if batch.is_meta or (like is not None and like.is_meta):
        raise InputError("the model or the image has no values (it is on PyTorch's meta device): give it its values")
    paths: dict[nn.Module, str] = {module: path for path, module in layers.items()}
    used: dict[str, None] = {}
    sizes: dict[tuple[int, ...], int] = {}
    seen: dict[str, tuple[tuple[int, ...], Array]] = {}

    def keep(module: "SamplingLayer", args: "tuple[Tensor, ...]", kwargs: "dict[str, Tensor]") -> None:
        path, x = paths[module], args[0] if args else kwargs["x"]
        used[path] = None
        size = tuple(x.shape[2:])
        number = sizes.setdefault(size, len(sizes) + 1)
        if layer in (None, path) and stage in (None, number):
            # Copied now, because the model may later change it in place; only the last call is kept.
            seen.clear()
            seen[path] = size, _positions(module, x)

    with unchanged(model), at_rest(model), watched(paths, enter=keep):
        try:
            model(batch.clone() if like is None else batch.to(like, copy=True))
        except DeconvsegError:
            raise
        except FOREIGN_ERRORS as error:
            raise InputError(
                f"the model cannot be run on an image {tuple(batch.shape)}: {first_line(error)}"
            ) from error
    if not seen:
        listed = ", ".join(used) or "none"
        if stage is not None and used:
            raise InputError(
                f"`stage={stage}`: the model has learned upsamplings at {number_of(len(sizes), 'stage')}, 1 the lowest "
                f"resolution ({listed})"
            )
        raise InputError(f"the model does not use its layer {layer or ', '.join(layers)} here; used: {listed}")
    path, (size, positions) = seen.popitem()
    if not np.isfinite(positions).all():
        raise InputError("the layer samples at positions that are not finite: check the image and the weights")
    return path, size, positions


def _positions(layer: "SamplingLayer", x: "Tensor") -> Array:
    """Compute (groups, axes, \\*output size) with the reference of the operator."""
    import torch

    from deconvseg.ops.deformable_upsample.reference import positions

    predicted = layer.predict(x)
    offsets, weights = predicted if isinstance(predicted, tuple) else (predicted, None)
    weights = None if weights is None else weights.float()
    where = positions(offsets.float(), weights, x.shape[2:], layer.scale, layer.receptive_field)
    out: Array = torch.stack(where, dim=1).double().cpu().numpy()
    return out
