"""The parts of a plan: channels, labels, regions, network, data summary and predicted cost."""

from typing import Annotated, Any, Literal, TypeAlias

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

from deconvseg.data import LabelEncoding, Normalisation, NormalisationKind
from deconvseg.models import current_arguments, list_models
from deconvseg.planning.appearance import Appearance
from deconvseg.planning.fingerprint import ChannelStatistics, ClassStatistics, Count, Fingerprint

Size = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
WindowRule: TypeAlias = Literal["centred", "nnunet"]


class Part(BaseModel):
    """Base class of the parts: strict and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelPlan(Part):
    """One input channel and the normalisation of its intensities.

    ``dicom`` picks the channel's series in a folder of DICOM: attributes of its headers by keyword, each with a pattern
    that its value matches (``{"SeriesDescription": "*FLAIR*"}``).

    Example:
        >>> from deconvseg.planning import ChannelPlan
        >>> ChannelPlan(name="CT", normalisation="ct", clip=(-160, 240), mean=40, std=90).name
        'CT'

    """

    name: str
    normalisation: NormalisationKind = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: Positive | None = None
    dicom: dict[str, str] = Field(default={})

    def __hash__(self) -> int:
        return hash((self.name, self.normalisation, self.clip, self.mean, self.std))

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Older plans have no rules for series, and their reasons were given for a plan without the key.
        tree: dict[str, Any] = serialize(self)
        return tree if self.dicom else {name: value for name, value in tree.items() if name != "dicom"}

    @model_validator(mode="after")
    def _check(self) -> "ChannelPlan":
        if self.normalisation == "ct" and (self.mean is None or self.std is None):
            raise ValueError("normalisation ct needs mean and std: give them, or choose zscore")
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError(f"clip {list(self.clip)}: give the lower bound first")
        return self

    def to_normalisation(self) -> Normalisation:
        """Return the normalisation as an object of `deconvseg.data`."""
        return Normalisation(self.normalisation, self.clip, self.mean, self.std)


class LabelPlan(Part):
    """The values in files of the classes, in the order of their ids (background first), and of ignored voxels.

    ``merged`` maps each further value of a class to the one in ``values``.

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
        # Older plans have no merged values, and their reasons were given for a plan without the key.
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
        """Return the encoding of file values as consecutive ids."""
        return LabelEncoding(self.values, self.names, foreground_only=self.foreground_only, ignore=self.ignore)


class RegionPlan(Part):
    """A union of classes (consecutive ids) that one sigmoid output predicts, and the id that it writes into masks.

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
        # Plans of older versions use other names for some arguments. Other errors are raised when the network is built.
        name = found.data.get("name")
        return current_arguments(name, config) if name in list_models() else config


class InferencePlan(Part):
    """How windows are swept over an image, and how their logits are averaged.

    Attributes:
        windows: the places and weights of windows: "centred", with a step of a whole number of voxels and a Gaussian
            about the middle of a window, or "nnunet", with nnU-Net's steps and its Gaussian about the voxel n // 2, and
            weights and sums in half precision.
        average: of several networks, the mean of "probabilities" on the image's grid or of "logits".
        tta: whether a prediction averages over mirrorings if nothing else is asked for.

    Example:
        >>> from deconvseg.planning import InferencePlan
        >>> InferencePlan(average="logits").windows
        'centred'

    """

    windows: WindowRule = "centred"
    average: Literal["probabilities", "logits"] = "probabilities"
    tta: bool = False


class DataSummary(Part):
    """Summary of the planned data: shapes, spacings (mm) (smallest, median, largest per axis), classes, channels.

    Prediction uses ``appearance`` to detect scans unlike the training scans; older plans have none.
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
        """Return the summary of a fingerprint, without its single cases."""
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
    """Predicted cost of the training on the machine of planning.

    ``memory_bytes`` is the peak memory of the process (on a GPU: of its tensors), and ``inference_memory_bytes`` the
    peak while one window is predicted, without the maps of the whole image. ``measured`` is False if the cost was
    estimated from a smaller patch or batch. With several ``processes``, one per device, each needs that memory.
    """

    device: str
    step_seconds: Positive
    training_seconds: Positive
    memory_bytes: Size
    inference_memory_bytes: Size
    memory_limit_bytes: Size
    processes: Size = 1
    measured: bool = True
