"""The options of a training and of a cross-validation; a new option is added only here, as a field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deconvseg.errors import InputError
from deconvseg.options.dataset import EXCLUDE, FOREGROUND, IMAGE, LABELS, MASK, READING, SERIES
from deconvseg.options.declaring import (
    FLAG,
    PLACE,
    SECONDS,
    SETTINGS,
    Option,
    Options,
    declared_options,
    whole,
)
from deconvseg.options.kinds import (
    COLUMN,
    CONSOLE,
    DEVICE_NAME,
    FOLD,
    PLAN,
    PRECISION,
    REGEX,
    STRATEGY,
    TRACK,
    WEIGHTS,
)
from deconvseg.options.planning import PlanOptions
from deconvseg.progress import Console
from deconvseg.system import reference_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from deconvseg.planning import Plan

_Path = str | PathLike[str]


SPLITS = Option(
    'JSON file {"train": [...], "val": [...], "test": [...]}, nnU-Net\'s splits_final.json, or a CSV with a column '
    "split.",
    PLACE,
    resume="contents",
)
DEVICE = Option("auto, cpu, cuda, cuda:N or mps.", DEVICE_NAME, names=("d", "device"))


@dataclass(frozen=True)
class RunOptions(PlanOptions):
    """The options of a training and of every training of a cross-validation."""

    dataset: Annotated[
        _Path,
        Option(
            "nnU-Net raw, Medical Segmentation Decathlon, images/ with masks/ or labels/, BIDS, a CSV, or any folder "
            "with patterns for its images and masks.",
            PLACE,
            positional=True,
            resume="contents",
        ),
    ]
    _: KW_ONLY
    plan: Annotated[
        "Plan | _Path | None", Option("Use this plan.json instead of making one.", PLAN, resume="contents")
    ] = None
    splits: Annotated[_Path | None, SPLITS] = None
    group_by: Annotated[
        str | None,
        Option(
            "Keep cases together if the groups of this regular expression match the same text in their names, such as "
            "^([0-9]+)_ for several scans of a subject.",
            REGEX,
        ),
    ] = None
    foreground: Annotated[bool, FOREGROUND] = False
    image: Annotated[str | Sequence[str] | Mapping[str, str] | None, IMAGE] = None
    mask: Annotated[str | Sequence[str] | Mapping[str, str] | None, MASK] = None
    labels: Annotated[_Path | Sequence[_Path] | Mapping[int, str] | None, LABELS] = None
    exclude: Annotated[_Path | Sequence[_Path] | None, EXCLUDE] = None
    series: Annotated[str | Sequence[str] | None, SERIES] = None
    epochs: Annotated[
        int | None, Option("Number of epochs of each training.", whole(1), key="recipe.epochs", resume="further")
    ] = None
    max_seconds: Annotated[
        float | None,
        Option(
            "Time limit of each training{form}; the plan is made for it, and planning, the final validation and the "
            "report come on top.",
            SECONDS,
            names=("time", "max-time"),
            resume="further",
        ),
    ] = None
    device: Annotated[str, DEVICE] = "auto"
    precision: Annotated[
        str | None, Option("auto, 32, bf16 or 16; by default that of the recipe.", PRECISION, key="recipe.precision")
    ] = None
    weights: Annotated[
        Literal["final", "best"] | None,
        Option(
            "Weights that are evaluated and used by predict: final, or best by the Dice of all validation cases; by "
            "default those of the recipe.",
            WEIGHTS,
            key="recipe.weights",
        ),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            "Processes that prepare and load the data of each training; 0: only the training process.",
            whole(0),
            resume="free",
        ),
    ] = None
    cache: Annotated[
        _Path | None,
        Option("Keep preprocessed cases in this folder, which several runs may share.", PLACE, resume="free"),
    ] = None
    pretrained: Annotated[_Path | None, Option("Start each training from the weights of this run.", PLACE)] = None
    values: Annotated[
        Mapping[str, Any] | None,
        Option("Change a value of the plan{form}.", SETTINGS, names=("set",), resume="contents"),
    ] = None
    track: Annotated[
        str | Sequence[str] | None,
        Option(
            "Follow each training with tensorboard, mlflow or wandb, which must be installed; several at once.",
            TRACK,
            resume="free",
        ),
    ] = None
    seed: Annotated[int, Option("Seed of all random numbers.", whole(0))] = 0
    devices: Annotated[
        int | None, Option("Number of devices per machine, each with its own process.", whole(1), resume="free")
    ] = None
    strategy: Annotated[
        str | None,
        Option(
            "ddp (default): every device holds the whole network; fsdp: every device holds a part.",
            STRATEGY,
            resume="free",
        ),
    ] = None

    @staticmethod
    def types() -> dict[str, Any]:
        """Import the type of a plan."""
        from deconvseg.planning import Plan

        return {"Plan": Plan}

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `deconvseg.data.open_dataset` for the dataset."""
        return {name: getattr(self, name) for name in READING}

    @property
    def plan_changes(self) -> dict[str, Any]:
        """The requested changes of the plan by dotted path, from options with a key and from ``values``."""
        asked = {key: value for _, key, value in self._entries()}
        # Options come first, because `values` may refine the choice of one, such as an argument of the upsampling.
        return {**asked, **(self.values or {}), **asked}

    def _entries(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the given options that are entries of a plan: names, keys and values."""
        for name, option, _ in declared_options(type(self)):
            if option.key is not None and (value := getattr(self, name)) is not None:
                yield name, option.key, value

    def check_given(self) -> None:
        """Refuse unknown names, and two values for one entry of the plan."""
        super().check_given()
        values = self.values or {}
        for name, key, asked in self._entries():
            if key in values and not _means_the_same(asked, values[key]):
                given = {key: values[key]}
                raise InputError(
                    f"`{name}={asked!r}` and `values={given!r}` both set {key} in the plan; give one of them"
                )

    def max_epochs(self, plan: "Plan") -> int | None:
        """Return the number of epochs that ends the training, or None if only the time limit does.

        With a time limit, the epochs of a plan are an estimate of what fits. Epochs that were requested by an option,
        by an edited plan or by the recipe of a paper are binding.
        """
        asked = "recipe.epochs" in (*self.plan_changes, *plan.changed_by_hand) or plan.recipe.name != "default"
        return plan.recipe.epochs if asked or self.max_seconds is None else None

    def to_json(self) -> dict[str, Any]:
        """Return the stored options as plain types; a plan that is not a file becomes None."""
        kept = [name for name, option, _ in declared_options(type(self)) if option.resume != "call"]
        file = self.plan if isinstance(self.plan, str) else None
        return {name: getattr(self, name) for name in kept} | {"plan": file, "values": dict(self.values or {})}

    def to_config(self) -> dict[str, Any]:
        """Return plain types for ``config.json``; runs are shared, so only the last part of paths is kept."""
        kept = self.to_json()
        given = {name: kept[name] for name in places(type(self)) if kept.get(name) is not None}
        return kept | {name: str(reference_of(path) or PurePath(path).name) for name, path in given.items()}

    def absolute(self) -> "Self":
        """Return the options with absolute paths."""
        given = {name: getattr(self, name) for name in places(type(self))}
        # Links are not resolved, because their names and neighbouring files determine how a dataset is read.
        found: dict[str, Any] = {
            name: str(reference_of(path) or Path(path).absolute()) for name, path in given.items() if type(path) is str
        }
        return replace(self, **found)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """The options of one training; ``config.json`` stores them, and a resumed run is checked against them."""

    fold: Annotated[int | str, Option("Validation fold (0, 1, …), or all to train on every training case.", FOLD)] = 0
    nodes: Annotated[
        int | None, Option("Number of machines, each started by torchrun or srun.", whole(1), resume="free")
    ] = None

    @classmethod
    def of(cls, options: RunOptions) -> "TrainOptions":
        """Return the options of a training from other options, with absolute paths."""
        own = {name for name, _, _ in declared_options(cls)}
        return cls(**{name: value for name, value in vars(options).items() if name in own}).absolute()


@dataclass(frozen=True)
class TrainArguments(TrainOptions):
    """The arguments of ``deconvseg train`` and :func:`~deconvseg.training.train`."""

    output: Annotated[_Path, Option("Run folder to create.", PLACE, names=("o", "output"), resume="call")]
    _: KW_ONLY
    resume: Annotated[
        bool,
        Option(
            "Continue the run after its last completed epoch; more epochs or time extend it.",
            FLAG,
            resume="call",
        ),
    ] = False
    console: Annotated[Console | bool | None, CONSOLE] = None


@dataclass(frozen=True)
class CrossvalOptions(RunOptions):
    """The options of ``deconvseg crossval``."""

    output: Annotated[
        _Path,
        Option("Folder to create, with a run per fold and the metrics.", PLACE, names=("o", "output"), resume="call"),
    ]
    _: KW_ONLY
    folds: Annotated[int | None, Option("Number of folds; by default those of splits_final.json, or 5.", whole(1))] = (
        None
    )
    stratify: Annotated[
        str | None, Option("Balance the folds by this column instead of the foreground volume.", COLUMN)
    ] = None
    table: Annotated[
        _Path | None,
        Option("CSV or TSV file with case names and that column; by default the dataset, if it is a CSV file.", PLACE),
    ] = None
    jobs: Annotated[
        int | None,
        Option("Number of folds to train in parallel; by default 1, or one per GPU.", whole(1), resume="call"),
    ] = None
    test: Annotated[
        bool,
        Option("Score the test cases too, by the model of each fold and by the mean of all.", FLAG, resume="call"),
    ] = False
    resume: Annotated[
        bool, Option("Keep the finished folds and continue the unfinished ones.", FLAG, resume="call")
    ] = False
    console: Annotated[Console | bool | None, CONSOLE] = None


def _means_the_same(asked: Any, value: Any) -> bool:
    """Compare an option with a value of the plan, which may list the size of a patch for each axis."""
    sizes = [list(part) if isinstance(part, list | tuple) else part for part in (asked, value)]
    if isinstance(asked, int) and isinstance(sizes[1], list):
        sizes[0] = [asked] * len(sizes[1])
    return bool(sizes[0] == sizes[1])


def places(options: type[Options]) -> tuple[str, ...]:
    """Return the names of the stored options that are paths."""
    found = declared_options(options)
    return tuple(name for name, option, _ in found if option.kind in (PLACE, PLAN) and option.resume != "call")


# The options for making a plan, and those of them that are no entries of a plan.
PLANNED = tuple(name for name, option, _ in declared_options(RunOptions) if option.plans)
UNKEYED = tuple(name for name, option, _ in declared_options(RunOptions) if option.plans and option.key is None)
