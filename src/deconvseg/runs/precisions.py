"""The file with the precision that was measured for the predictions of a run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from deconvseg.ops.precision import PRECISION_NAMES
from deconvseg.runs.records import read_record
from deconvseg.system import write_text

# Float32, or bfloat16 with float32 weights (autocast).
Precision: TypeAlias = Literal["32", "bf16"]
PRECISION = "precision.json"
# The largest loss of mean Dice with which bfloat16 is chosen.
LARGEST_LOSS = 0.0005


class MeasuredPrecision(BaseModel):
    """The precision that ``predict`` uses for a run by default, and what was measured for it.

    Attributes:
        choice: "bf16" if bfloat16 is faster and loses at most 0.0005 of the mean Dice, otherwise "32".
        why: the reason in words.
        dice: the mean Dice of the same validation cases in each precision; empty if bfloat16 is not faster.
        agreement: the mean Dice of the masks in bfloat16 with those in float32; None if they were not compared, or are
            all empty.
        cases: the number of these cases.
        seconds: of one window of the network in each precision; empty if nothing was measured.
        device: "cpu", "cuda", ….
        processor: the name of the processor.
        weights: the SHA-256 of the weights for which all of this was measured.

    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    choice: Precision
    why: str
    dice: dict[Precision, float] = {}
    agreement: float | None = None
    cases: int = 0
    seconds: dict[Precision, float] = {}
    device: str = ""
    processor: str = ""
    weights: tuple[str | None, ...] = ()

    def write(self, folder: Path) -> None:
        """Write ``precision.json`` into the folder."""
        write_text(folder / PRECISION, self.model_dump_json(indent=2) + "\n")


def read_precision(folder: str | PathLike[str]) -> MeasuredPrecision | None:
    """Read a folder's ``precision.json``; None if it does not exist; :class:`InputError` names an invalid key.

    Example:
        >>> from deconvseg.runs import read_precision
        >>> read_precision("RUN").choice
        '32'

    """
    remedy = "copy the run again, or remove the file and give `precision`"
    return read_record(Path(folder) / PRECISION, MeasuredPrecision, remedy)


def name_precision(precision: Precision) -> str:
    """Return the name of a precision as text.

    Example:
        >>> from deconvseg.runs import name_precision
        >>> name_precision("bf16")
        'bfloat16'

    """
    return PRECISION_NAMES[precision]
