"""The types of the JSON content that a report reads. Entries may be missing, such as in runs of other versions."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Channel(_Part):
    name: str
    normalisation: str = ""


class _Labels(_Part):
    values: list[int] = []
    names: list[str] = []


class _Region(_Part):
    name: str
    labels: list[int] = []


_Colour = Annotated[str, Field(pattern=r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$")]


class _Model(_Part):
    name: str | None = None


class Plan(_Part):
    """The part of a plan that a report shows."""

    dataset: str | None = None
    channels: list[_Channel] | None = None
    labels: _Labels | None = None
    regions: list[_Region] | None = None
    model: _Model = _Model()
    recipe: _Model = _Model()
    reasons: dict[str, str] | None = None
    colours: dict[str, _Colour] | None = None


class Splits(_Part):
    """The cases of each split."""

    train: list[str] = []
    val: list[str] = []
    test: list[str] = []


class _Mean(_Part):
    mean: float | None


class _Spread(_Mean):
    fold_means: list[float | None]
    std_folds: float | None
    std_cases: float | None


class _Measured(_Part):
    dsc: _Spread
    with_truth: _Mean | None = None


class _NamedMeasured(_Measured):
    name: str


class _Spreads(_Part):
    classes: dict[str, _NamedMeasured]
    mean: _Measured


class _Fold(_Part):
    fold: int
    cases: list[str]


class _Gain(_Part):
    before: float
    after: float


class _Postprocessing(_Part):
    steps: list[Any] = []
    dice_by_other_folds: dict[str, _Gain] = {}
    with_truth_by_other_folds: dict[str, _Gain] = {}


class _TestedFold(_Part):
    fold: int


class _TestedMetric(_Part):
    fold_means: list[float | None]
    mean: float | None
    std_folds: float | None
    average: float | None


class _TestedClass(_Part):
    """A class: its metrics are the further entries."""

    __pydantic_extra__: dict[str, _TestedMetric]

    name: str
    counted: bool


class _TestedSpread(_Part):
    classes: dict[str, _TestedClass]
    mean: dict[str, _TestedMetric]


class _Tested(_Part):
    cases: int
    folds: list[_TestedFold]
    average: str | None = None
    spread: _TestedSpread | None


class CrossValidation(_Part):
    """The part of a cross-validation that a report shows in addition to the cases."""

    spread: _Spreads | None = None
    folds: list[_Fold] = []
    postprocessing: _Postprocessing | None = None
    test: _Tested | None = None
