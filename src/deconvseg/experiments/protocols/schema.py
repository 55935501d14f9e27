"""The protocol of a table: what is trained on which datasets, what is measured, and beside which published table."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deconvseg.errors import InputError, check_choice

_Name = Annotated[str, Field(min_length=1, pattern=r"^[^\s/\\][^/\\]*$")]
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProtocolSetting(_Part):
    """What all networks have in common on a dataset for which no paper has a preset.

    These are the channels of its images, its outputs (with the background) and its axes; the patch and the batch of a
    step; values of the ``plan`` by dotted path, as a `Protocol` has them; and arguments by registered model, such as
    its widths.
    """

    in_channels: _Count
    out_channels: _Count
    spatial_dims: Literal[2, 3]
    patch_size: Annotated[tuple[_Count, ...], Field(min_length=2, max_length=3)]
    batch_size: _Count
    plan: dict[str, Any] = {}
    networks: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _check(self) -> "ProtocolSetting":
        if len(self.patch_size) != self.spatial_dims:
            raise ValueError(f"patch_size: give {self.spatial_dims} numbers for {self.spatial_dims} axes")
        return self


class ProtocolDataset(_Part):
    """A dataset of a protocol, by the name of its layout and card.

    ``preset`` has its networks, patch and batch (by default the preset of the same name); a ``setting`` has them
    instead for other datasets. ``test`` says what happens to the test cases that the dataset declares: "folds" scores
    the model of each fold on them, "average" the mean of the folds' probabilities; None scores the out-of-fold
    predictions. If the dataset declares none, the share ``test_share`` of its cases is drawn as test cases with seed 0.
    ``steps`` are those of each training; by default the recipe's. ``foreground`` merges all labels above zero into one
    class, as of maps of instances.
    """

    name: _Name
    title: str = ""
    preset: str | None = None
    setting: ProtocolSetting | None = None
    test: Literal["folds", "average"] | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    steps: _Count | None = None
    foreground: bool = False

    @model_validator(mode="after")
    def _check(self) -> "ProtocolDataset":
        if self.preset is not None and self.setting is not None:
            raise ValueError(f"dataset {self.name!r}: give a preset or a setting, not both")
        return self


class ProtocolRow(_Part):
    """A network of a protocol: a ``variant`` of the datasets' presets, or a ``model``, with further ``arguments``.

    ``arguments`` replace those of the variant, or of the preset's network of that name, or are all arguments that the
    data does not determine. ``plan`` replaces values of the row's plans by dotted path, after those of the protocol.
    Instead, ``members`` are keys of other rows, whose probabilities are averaged. ``datasets`` restricts the row to
    some of the datasets; by default it is trained on all.
    """

    key: Annotated[str, Field(min_length=1, pattern=r"^[^\s/\\.][^/\\]*$")]
    title: str
    variant: str | None = None
    model: str | None = None
    arguments: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    members: tuple[str, ...] = ()
    datasets: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> "ProtocolRow":
        if sum((self.variant is not None, self.model is not None, bool(self.members))) != 1:
            raise ValueError(f"row {self.key!r}: give one of variant, model and members")
        if self.members and self.plan:
            raise ValueError(f"row {self.key!r}: members have their own plans")
        return self


class ProtocolColumn(_Part):
    """A column: a ``metric`` (its key, such as "dsc") of a ``structure`` (empty: the mean over all) of a dataset.

    ``unit`` is "%" for overlaps in percent, "mm", or "voxel" (pixels in 2D). ``grid`` is where masks are scored,
    and ``empty`` the rule for empty masks (`deconvseg.evaluation.evaluate`). ``printed`` is the metric's key in the
    published table if it has another one there.
    """

    dataset: str
    metric: str
    structure: str = ""
    title: str = ""
    unit: Literal["", "%", "mm", "voxel"] = ""
    digits: Annotated[int, Field(ge=0, le=9)] = 2
    empty: Literal["diagonal", "brats", "drop"] = "diagonal"
    grid: Literal["image", "plan"] = "image"
    printed: str = ""

    @property
    def key(self) -> str:
        """Dataset, metric and structure as they are published, such as ``"brats23/dsc/WT"``."""
        return "/".join(part for part in (self.dataset, self.printed or self.metric, self.structure) if part)

    @property
    def scoring(self) -> tuple[str, str, str]:
        """Unit, rule for empty masks and grid, which the columns of one evaluation have in common."""
        return self.unit, self.empty, self.grid


class ProtocolFigure(_Part):
    """A figure that is drawn from the cells of a table, and the keys of the rows in it (all if there are none).

    ``shows`` is "cost" (the score of a ``column``, by default the first, against parameters and operations),
    "sampling" (where networks with learned upsampling sample), or masks of several networks on the same held-out
    cases: "errors" by colour, "masks" in white on black, or "classes" in their colours. ``cases`` of each of the
    ``datasets`` (all by default) are shown, those whose Dice differs most; ``crops`` regions of each are enlarged.
    """

    name: Annotated[str, Field(min_length=1)]
    shows: Literal["cost", "errors", "masks", "classes", "sampling"]
    rows: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    column: str | None = None
    cases: Annotated[int, Field(ge=1, le=20)] = 1
    crops: Annotated[int, Field(ge=0, le=4)] = 0


class ProtocolTime(_Part):
    """Equal time in place of equal steps: each training has as many steps as fit into ``seconds``.

    ``steps`` has the measured seconds of a step by dataset and row, on the ``processor`` with ``threads``. Steps are
    counted from these and not from a clock, so the load of the machine changes no result. ``patches`` are the measured
    seconds of the prediction of one patch.
    """

    seconds: _Seconds
    processor: str
    threads: _Count
    steps: dict[str, dict[str, _Seconds]]
    patches: dict[str, dict[str, _Seconds]] = {}


class Protocol(_Part):
    """A table: datasets × networks × folds × seeds under one recipe, and the columns that are measured.

    ``recipe`` is the name of a recipe (by default that of each preset), ``plan`` replaces further values of the plan by
    dotted path, such as ``{"recipe.epochs": 100}``. ``weights`` are the evaluated ones: those after the last epoch
    ("final") or those with the best validation ("best"). A protocol with ``trains`` false has no columns of scores: its
    costs are counted. ``published`` is the key of the table in `deconvseg.catalog.PUBLISHED_SCORES` beside which the
    result stands. ``time`` gives all rows the same time instead of the same steps. With one fold, a cell is one
    training with the declared validation cases, or a fifth of the cases that are not for testing. ``notes`` are
    readings of places where the paper is unclear.

    Example:
        >>> from deconvseg.experiments import read_protocol
        >>> protocol = read_protocol("dtc/table-1")
        >>> protocol.folds, protocol.weights, [dataset.name for dataset in protocol.datasets]
        (5, 'best', ['isic', 'busi'])

    """

    version: Literal[1] = 1
    key: Annotated[str, Field(min_length=1)]
    title: str
    paper: str = ""
    datasets: Annotated[tuple[ProtocolDataset, ...], Field(min_length=1)]
    rows: Annotated[tuple[ProtocolRow, ...], Field(min_length=1)]
    columns: tuple[ProtocolColumn, ...] = ()
    trains: bool = True
    folds: _Count = 5
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    recipe: str | None = None
    plan: dict[str, Any] = {}
    weights: Literal["final", "best"] = "final"
    reference: str | None = None
    published: str | None = None
    figures: tuple[ProtocolFigure, ...] = ()
    time: ProtocolTime | None = None
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Protocol":
        names = [dataset.name for dataset in self.datasets]
        keys = [row.key for row in self.rows]
        columns = [column.key for column in self.columns]
        drawn = [figure.name for figure in self.figures]
        for listed, what in ((names, "datasets"), (keys, "rows"), (columns, "columns"), (drawn, "figures")):
            if twice := [name for name in dict.fromkeys(listed) if listed.count(name) > 1]:
                raise ValueError(f"{what}: {twice[0]!r} is listed twice")
        for column in self.columns:
            _known(column.dataset, names, f"columns: dataset of {column.key!r}")
        for row in self.rows:
            for name in row.datasets or ():
                _known(name, names, f"rows: dataset of {row.key!r}")
            for member in row.members:
                _known(member, [other.key for other in self.rows if not other.members], f"rows: member of {row.key!r}")
        if self.reference is not None:
            _known(self.reference, keys, "reference")
        for figure in self.figures:
            for key in figure.rows:
                _known(key, keys, f"figures: row of {figure.name!r}")
            for name in figure.datasets:
                _known(name, names, f"figures: dataset of {figure.name!r}")
            if figure.column is not None:
                _known(figure.column, columns, f"figures: column of {figure.name!r}")
        if self.time is not None:
            self._check_time(self.time)
        if self.trains and not self.columns:
            raise ValueError("columns: a table that trains needs at least one")
        return self

    def _check_time(self, time: ProtocolTime) -> None:
        """Raise an error if the seconds of a step of some row are missing, or if steps are given too."""
        for dataset in self.datasets:
            if dataset.steps is not None:
                raise ValueError(f"time: dataset {dataset.name!r} has steps already; give one of them")
            for row in self.rows:
                asked = not row.members and (row.datasets is None or dataset.name in row.datasets)
                if asked and row.key not in time.steps.get(dataset.name, {}):
                    raise ValueError(f"time.steps: row {row.key!r} on {dataset.name!r} has no seconds of a step")

    def steps_of(self, row: ProtocolRow, dataset: ProtocolDataset) -> int | None:
        """Return the steps of a row's trainings on a dataset; None for those of the recipe."""
        if self.time is None:
            return dataset.steps
        return max(1, int(self.time.seconds / self.time.steps[dataset.name][row.key]))

    def patch_seconds(self, row: str, dataset: str) -> float | None:
        """Return the measured seconds of the prediction of a patch by a row; None if they were not measured."""
        return None if self.time is None else self.time.patches.get(dataset, {}).get(row)

    def dataset(self, name: str) -> ProtocolDataset:
        """Return the dataset of that name."""
        return {dataset.name: dataset for dataset in self.datasets}[name]

    def row(self, key: str) -> ProtocolRow:
        """Return the row of that key."""
        return {row.key: row for row in self.rows}[key]

    def columns_of(self, row: ProtocolRow) -> tuple[ProtocolColumn, ...]:
        """Return the columns of the datasets on which a row is trained."""
        return tuple(column for column in self.columns if row.datasets is None or column.dataset in row.datasets)


def _known(name: str, known: list[str], what: str) -> None:
    try:
        check_choice(name, known, what)
    except InputError as error:
        raise ValueError(str(error)) from error
