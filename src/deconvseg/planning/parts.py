"""The parts of a plan: channels, labels, regions, network, the data in figures, and what training takes."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from deconvseg.data import LabelEncoding, Normalisation
from deconvseg.models import current_arguments, list_models
from deconvseg.planning.appearance import Appearance
from deconvseg.planning.fingerprint import ChannelStatistics, ClassStatistics, Count, Fingerprint

Size = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """Base class: strict and unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelPlan(Part):
    """One input channel and how its intensities are brought to a common scale.

    Example:
        >>> from deconvseg.planning import ChannelPlan
        >>> ChannelPlan(name="CT", normalisation="ct", clip=(-160, 240), mean=40, std=90).name
        'CT'

    """

    name: str
    normalisation: Literal["zscore", "zscore_nonzero", "ct"] = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "ChannelPlan":
        if self.normalisation == "ct" and (self.mean is None or self.std is None):
            raise ValueError("normalisation ct needs mean and std: give them, or choose zscore")
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError(f"clip {list(self.clip)}: give the lower bound first")
        return self

    def to_normalisation(self) -> Normalisation:
        """Return the data floor's form of it."""
        return Normalisation(self.normalisation, self.clip, self.mean, self.std)


class LabelPlan(Part):
    """The file values of the classes, in the order of their ids (background first), and of voxels to ignore.

    ``merged`` has the further values of a class, each with the one of ``values`` that stands for it.

    Example:
        >>> from deconvseg.planning import LabelPlan
        >>> LabelPlan(values=(0, 3, 7), names=("background", "shell", "core")).values
        (0, 3, 7)

    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    foreground_only: bool = False
    ignore: int | None = None
    merged: dict[int, int] = Field(default={})

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Plans of before know no merged values, and their reasons are for what they had.
        tree: dict[str, Any] = serialize(self)
        return tree if self.merged else {name: value for name, value in tree.items() if name != "merged"}

    @model_validator(mode="after")
    def _check(self) -> "LabelPlan":
        if len(self.values) != len(self.names):
            raise ValueError(f"{len(self.values)} values but {len(self.names)} names")
        if len(self.values) < 2:
            raise ValueError("at least a background and one class are needed")
        if wrong := [v for v, other in self.merged.items() if v in self.values or other not in self.values]:
            raise ValueError(f"merged: {wrong[0]} must be another value than {list(self.values)}, for one of these")
        self.to_encoding()
        return self

    def to_encoding(self) -> LabelEncoding:
        """Return the map between file values and consecutive ids."""
        return LabelEncoding(self.values, self.names, foreground_only=self.foreground_only, ignore=self.ignore)


class RegionPlan(Part):
    """A union of classes (consecutive ids) that one sigmoid output predicts, and the id it paints.

    Example:
        >>> from deconvseg.planning import RegionPlan
        >>> RegionPlan(name="whole tumour", labels=(1, 2, 3), paints=1).paints
        1

    """

    name: str
    labels: tuple[int, ...]
    paints: int


class ModelPlan(Part):
    """A registered network and its constructor arguments.

    Example:
        >>> from deconvseg.planning import ModelPlan
        >>> ModelPlan(name="unet", config={"in_channels": 1, "out_channels": 2, "spatial_dims": 2}).name
        'unet'

    """

    name: str
    config: dict[str, Any]

    @field_validator("config")
    @classmethod
    def _current(cls, config: dict[str, Any], found: ValidationInfo) -> dict[str, Any]:
        # Plans of older versions name some arguments otherwise. What else is wrong is told when the network is built.
        name = found.data.get("name")
        return current_arguments(name, config) if name in list_models() else config


class DataSummary(Part):
    """What the plan was made from: shapes and spacings (mm; smallest, median, largest per axis), classes, channels.

    With its ``appearance`` a prediction tells scans that are unlike the training scans; older plans have none.
    """

    cases: Size
    shapes: tuple[tuple[Size, ...], tuple[Size, ...], tuple[Size, ...]]
    spacings: tuple[tuple[Positive, ...], tuple[Positive, ...], tuple[Positive, ...]]
    orientations: dict[str, Count]
    classes: tuple[ClassStatistics, ...]
    channels: tuple[ChannelStatistics, ...]
    appearance: Appearance | None = None

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> "DataSummary":
        """Leave out the single cases."""
        shapes, spacings = np.array(fingerprint.shapes), np.array(fingerprint.spacings)
        shape = [np.min(shapes, axis=0), np.median(shapes, axis=0), np.max(shapes, axis=0)]
        spacing = [np.min(spacings, axis=0), np.median(spacings, axis=0), np.max(spacings, axis=0)]
        small, middle, large = (tuple(int(n) for n in row) for row in shape)
        fine, usual, coarse = (tuple(round(float(n), 6) for n in row) for row in spacing)
        return cls(
            cases=len(shapes),
            shapes=(small, middle, large),
            spacings=(fine, usual, coarse),
            orientations=fingerprint.orientations,
            classes=fingerprint.classes,
            channels=fingerprint.channels,
            appearance=Appearance.of(fingerprint.looks, fingerprint.spatial_dims, len(fingerprint.channels))
            if fingerprint.looks
            else None,
        )


class Prediction(Part):
    """What a training with the planned network, patch and batch takes on the machine that it was planned on.

    ``memory_bytes`` is the most that the process has at one time (of a GPU: the most that tensors take of its memory),
    ``inference_memory_bytes`` the same while one window is predicted, without the image's own maps.
    ``measured`` is False where it was estimated from a smaller patch or batch. Of several ``processes``, one on each
    device, each takes that memory.
    """

    device: str
    step_seconds: Positive
    training_seconds: Positive
    memory_bytes: Size
    inference_memory_bytes: Size
    memory_limit_bytes: Size
    processes: Size = 1
    measured: bool = True
