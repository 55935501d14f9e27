"""A published table of scores: its columns, its rows and the printed scores."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

# The names of the papers' datasets by the name of their preset, as a table shows them.
DATASETS: Mapping[str, str] = {
    "isles22": "ISLES'22",
    "brats23": "BraTS'23",
    "glas": "GlaS",
    "fives": "FIVES",
    "isic": "ISIC 2018",
    "busi": "BUSI",
    "btcv": "BTCV",
    "isles26": "ISLES'26",
}


class PublishedScore(NamedTuple):
    """A printed score in the unit of its column, and its standard deviation over folds if that is printed.

    Example:
        >>> from deconvseg.catalog import PUBLISHED_SCORES
        >>> PUBLISHED_SCORES["deconver/table-1"].row("deconver-k3").scores["isles22/dsc"]
        PublishedScore(value=78.16, sd=None)

    """

    value: float
    sd: float | None = None


class ScoreColumn(NamedTuple):
    """A column of scores: one metric of one structure of one dataset.

    ``dataset`` is the name of a preset, ``metric`` the key of a registered metric, ``structure`` a class or a region
    (empty: the mean over all). ``unit`` is that of the printed scores; ``better`` the direction of better ones.

    Example:
        >>> from deconvseg.catalog import ScoreColumn
        >>> ScoreColumn("brats23", "dsc", "WT").key
        'brats23/dsc/WT'

    """

    dataset: str
    metric: str
    structure: str = ""
    unit: str = "%"
    better: Literal["higher", "lower"] = "higher"

    @property
    def key(self) -> str:
        """Dataset, metric and structure, such as ``"brats23/dsc/WT"``."""
        return "/".join(part for part in (self.dataset, self.metric, self.structure) if part)

    @property
    def title(self) -> str:
        """The metric and the structure as the column's heading."""
        metric = {"dsc": "DSC", "hd95": "HD95", "nsd": "NSD"}[self.metric]
        return f"{metric} {self.structure}" if self.structure else metric


class ScoreRow(NamedTuple):
    """A network of a table: its printed name and scores by column, and its name among a preset's variants.

    ``parameters`` and ``cost`` are as printed, empty where the table has none. ``reasons`` are keys of
    :data:`~deconvseg.catalog.REASONS`.

    Example:
        >>> from deconvseg.catalog import PUBLISHED_SCORES
        >>> PUBLISHED_SCORES["deconver/table-1"].row("deconver-k3").parameters
        '10.5M'

    """

    key: str
    title: str
    scores: Mapping[str, PublishedScore]
    variant: str = ""
    parameters: str = ""
    cost: str = ""
    reasons: tuple[str, ...] = ()


class ScoreTable(NamedTuple):
    """A table of a paper: ``key`` is that of its protocol, ``source`` where it is printed.

    Example:
        >>> from deconvseg.catalog import PUBLISHED_SCORES
        >>> table = PUBLISHED_SCORES["dtc/table-1"]
        >>> [column.key for column in table.columns]
        ['isic/dsc', 'busi/dsc']
        >>> table.row("unet-linear+dtc").scores["busi/dsc"]
        PublishedScore(value=78.14, sd=1.69)

    """

    key: str
    title: str
    source: str
    columns: tuple[ScoreColumn, ...]
    rows: tuple[ScoreRow, ...]
    reasons: tuple[str, ...] = ()

    def row(self, key: str) -> ScoreRow:
        """Return the row of that key; `KeyError` without it."""
        return {row.key: row for row in self.rows}[key]
