"""Which series of a folder are asked for, where a folder holds several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SeriesChoice:
    """The series that are asked for of each study.

    ``series`` are UIDs, descriptions or modalities, also as patterns (``T1*``), in upper or lower case; without them
    all series are candidates. ``count`` is the number of channels of the network (None: each series is a case), and
    ``channels`` maps their names, in order, to what picks the series of each: attributes of the headers with a pattern
    (``{"SeriesDescription": "*FLAIR*"}``). A channel without a rule has an empty mapping.

    Example:
        >>> from deconvseg.data import SeriesChoice
        >>> SeriesChoice(("T1*",), count=1).series
        ('T1*',)

    """

    series: tuple[str, ...] = ()
    count: int | None = None
    channels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
