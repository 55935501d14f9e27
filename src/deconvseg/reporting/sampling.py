"""The sampling positions of a learned upsampling: DTC's Fig. 7 (arXiv 2601.17939), and the numbers behind it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import DeconvsegError, InputError, check_choice
from deconvseg.reporting.overlay import axial, window
from deconvseg.reporting.style import INK, MUTED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from deconvseg.nn.upsampling import SamplingLayer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SamplingMap:
    """The sampling positions of one layer for one image.

    Attributes:
        layer: path of the layer in the model.
        image: the image, (C, \\*S).
        positions: (groups, axes, \\*output size), in pixels of the layer's input from the centre of the first one, in
            array order; DTC has one group. They are not clipped; the operator clips them to the border.
        size: spatial size of the layer's input.
        scale: upsampling factor of each axis.
        slice: the axial slice of the image that the figure shows, None in 2D.

    """

    layer: str
    image: npt.NDArray[Any]
    positions: Array
    size: tuple[int, ...]
    scale: tuple[int, ...]
    slice: int | None
    density: Array = field(init=False)
    displacement: Array = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", _density(self.positions, self.size))
        away = self.positions - _regular_grid(self.size, self.scale)
        object.__setattr__(self, "displacement", np.sqrt(np.square(away).sum(axis=1)))

    @property
    def image_positions(self) -> Array:
        """The positions in pixels of the image."""
        ratio = np.divide(self.image.shape[1:], self.size).reshape(-1, *[1] * len(self.size))
        out: Array = (self.positions + 0.5) * ratio - 0.5
        return out

    @property
    def mean_displacement(self) -> float:
        """The mean distance of the positions from those of linear interpolation, in pixels of the layer's input."""
        return float(self.displacement.mean())

    @property
    def large_displacement(self) -> float:
        """The 95th percentile of these distances."""
        return float(np.percentile(self.displacement, 95))

    @property
    def unsampled(self) -> float:
        """The share of the input pixels that the layer does not read."""
        return float(np.mean(self.density == 0))

    def figure(self) -> "Figure":
        """Return a figure: the image, the positions as white points, and their density over the image.

        The density is relative to linear interpolation, which reads every pixel equally. In 3D it shows the axial
        slice, with the positions in it.
        """
        picture, density, rows, columns = self._view()
        height, width = picture.shape[:2]
        figure = new_figure(9.6, 3.1 * min(height / width, 2) + 0.9)
        pictured, scattered, overlaid = figure.subplots(1, 3)
        frame = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "nearest"}
        pictured.imshow(picture, **frame)
        scattered.set_facecolor("black")
        # About half the distance between the points of a regular grid with the same number of points.
        side = 72 * 2.9 / math.sqrt(max(len(rows), 1) * max(width / height, height / width))
        scattered.scatter(columns, rows, s=(0.55 * side) ** 2, color="white", linewidths=0, rasterized=True)
        scattered.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
        overlaid.imshow(picture, **frame)
        shade = overlaid.imshow(density, cmap="inferno", alpha=0.75, vmin=0, vmax=2, **frame)
        bar = figure.colorbar(shade, ax=overlaid, shrink=0.85, extend="max")
        bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
        bar.outline.set_visible(False)
        where = "" if self.slice is None else f", slice {self.slice}"
        names = (f"Image{where}", "Positions", "Density (linear interpolation: 1)")
        for axes, name in zip((pictured, scattered, overlaid), names, strict=True):
            axes.set_title(name, fontsize=10, color=MUTED)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        figure.suptitle(plain(self.layer, 100), fontsize=11, fontweight="bold", color=INK)
        figure.supxlabel(str(self), fontsize=9, color=MUTED)
        return figure

    def __str__(self) -> str:
        moved = f"{self.mean_displacement:.2f} pixels on average (95 %: {self.large_displacement:.2f})"
        return f"positions move {moved}, {self.unsampled:.1%} of the pixels are not read"

    def _view(self) -> tuple[npt.NDArray[np.float32], Array, Array, Array]:
        """Return the slice shown (H, W, 3), the relative density on it, and rows and columns of the points in it."""
        picture = window(self.image)
        density = self.density / math.prod(self.scale)
        points = np.moveaxis(self.image_positions, 1, -1).reshape(-1, len(self.size))
        if self.slice is not None:
            depth = (self.slice * self.size[2]) // self.image.shape[3]
            inside = np.moveaxis(self.positions, 1, -1).reshape(-1, 3)[:, 2].clip(0, self.size[2] - 1)
            points = points[np.round(inside) == depth]
            x, y = self.image.shape[1:3]
            points = np.stack([y - 1 - points[:, 1], x - 1 - points[:, 0]], axis=1)
            picture, density = axial(picture, self.slice), axial(density, depth)
        return np.broadcast_to(picture, (*picture.shape[:2], 3)), density, points[:, 0], points[:, 1]


def sampling_map(
    model: "nn.Module", image: "npt.NDArray[Any] | Tensor", layer: str | None = None, slice: int | None = None
) -> SamplingMap:
    """Run a model once on an image and return where one of its learned upsamplings samples (DTC's Fig. 7).

    ``model`` is any network with a :class:`~deconvseg.nn.DTC`, a :class:`~deconvseg.nn.DySample` or another
    :class:`~deconvseg.nn.upsampling.SamplingLayer`, including upgraded networks; it is not changed. ``image`` is
    (C, \\*S) or (1, C, \\*S), 2D or 3D, preprocessed as the network takes it.
    ``layer`` is the path of the layer, by default of the last that is called; ``slice`` the axial slice that a 3D
    figure shows, by default the middle. Raises :class:`~deconvseg.errors.InputError` for a model without such a layer,
    an unknown path, with the nearest ones, a layer that is not used, and an image of another shape.

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
    if layer is not None:
        check_choice(layer, layers, "layer")
    batch = _batch_of_one(image, axes=len(next(iter(layers.values())).scale))
    if batch.ndim == 5:
        slice = batch.shape[-1] // 2 if slice is None else slice
        if not 0 <= slice < batch.shape[-1]:
            raise InputError(f"slice={slice}: the image has 0 to {batch.shape[-1] - 1}")
    elif slice is not None:
        raise InputError(f"slice={slice}: a 2D image has none")
    path, size, positions = _run(model, layers, batch, layer)
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
    model: "nn.Module", layers: "Mapping[str, SamplingLayer]", batch: "Tensor", layer: str | None
) -> tuple[str, tuple[int, ...], Array]:
    """Run the model; return the path of the layer (by default the last called), its input size and its positions."""
    from deconvseg.nn.observing import at_rest, reference_tensor, unchanged, watched
    from deconvseg.system import FOREIGN_ERRORS, first_line

    like = reference_tensor(model)
    if batch.is_meta or (like is not None and like.is_meta):
        raise InputError("the model or the image has no values (it is on PyTorch's meta device): give it its values")
    paths: dict[nn.Module, str] = {module: path for path, module in layers.items()}
    used: dict[str, None] = {}
    seen: dict[str, tuple[tuple[int, ...], Array]] = {}

    def keep(module: "SamplingLayer", args: "tuple[Tensor, ...]", kwargs: "dict[str, Tensor]") -> None:
        path, x = paths[module], args[0] if args else kwargs["x"]
        used[path] = None
        if layer in (None, path):
            # Copied now, because the model may later change it in place; only the last call is kept.
            seen.clear()
            seen[path] = tuple(x.shape[2:]), _positions(module, x)

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


def _regular_grid(size: Sequence[int], scale: Sequence[int]) -> Array:
    """Return the positions of linear interpolation, (axes, \\*output size)."""
    axes = [(np.arange(n * factor) + 0.5) / factor - 0.5 for n, factor in zip(size, scale, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _density(positions: Array, size: Sequence[int]) -> Array:
    """Sum the weights of linear interpolation with which each pixel is read, averaged over groups."""
    shape = np.reshape(size, (-1, *[1] * (positions.ndim - 2)))
    inside = positions.clip(0, shape - 1)
    lower = np.floor(inside).astype(np.int64)
    fraction = inside - lower
    total = np.zeros(math.prod(size))
    for corner in itertools.product((0, 1), repeat=len(size)):
        step = np.reshape(corner, shape.shape)
        pixel = np.minimum(lower + step, shape - 1)
        share = np.where(step, fraction, 1 - fraction).prod(axis=1)
        index = np.ravel_multi_index(tuple(np.moveaxis(pixel, 1, 0)), tuple(size))
        total += np.bincount(index.ravel(), share.ravel(), minlength=len(total))
    return total.reshape(size) / len(positions)
