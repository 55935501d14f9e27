"""The axes on which a network sees images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deconvseg.data.geometry import AxisOrder, Geometry

_Axis = Annotated[int, Field(ge=0, le=2)]


class Axes(BaseModel):
    """The axes of a network's grid.

    ``orientation`` is the nearest canonical one (RAS in 3D), or that in which the image is stored. Axis i of the
    network is axis ``order[i]`` of that orientation (None: in their order). The spacing of the network's axes in
    ``native`` is that of each image, as for a network of single slices.

    Example:
        >>> from deconvseg.data import Axes, read_image
        >>> geometry = read_image("scan.nii.gz").geometry  # its axes run to the left, to the front and upwards
        >>> Axes().of(geometry).flips, Axes(orientation="stored", order=(2, 1, 0)).of(geometry).permutation
        ((True, False, False), (2, 1, 0))

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    orientation: Literal["canonical", "stored"] = "canonical"
    order: tuple[_Axis, ...] | None = None
    native: tuple[_Axis, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Axes:
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order {list(self.order)}: give each axis once, as [2, 1, 0]")
        return self

    def of(self, geometry: Geometry) -> AxisOrder:
        """Return the order that brings an array with this geometry to the network's axes."""
        dims = geometry.spatial_dims
        stored = AxisOrder(tuple(range(dims)), (False,) * dims)
        oriented = geometry.axis_order() if self.orientation == "canonical" else stored
        if self.order is None:
            return oriented
        return AxisOrder(
            tuple(oriented.permutation[axis] for axis in self.order), tuple(oriented.flips[axis] for axis in self.order)
        )


CANONICAL = Axes()
