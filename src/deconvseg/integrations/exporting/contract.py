"""The contract beside an exported network: all that a reader needs to make the same masks, as JSON."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deconvseg.data import file_sha256, read_json_object
from deconvseg.errors import InputError
from deconvseg.inference import CONTRACT, Step
from deconvseg.planning.parts import ChannelPlan
from deconvseg.system import does_not_exist, write_text
from deconvseg.text import dump_json

ExportFormat = Literal["onnx", "openvino", "torch-export", "monai-bundle"]
Size = Annotated[int, Field(ge=1)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# A name of a file in the folder of the contract, never a path; a bundle of MONAI has its weights in "models".
FileName = Annotated[str, Field(pattern=r"^(models/)?[\w-]+(\.[\w-]+)*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExportedModel(_Part):
    """The program: float32 images (B, C, *W) to logits (B, networks * maps, *W), network by network.

    Sides of windows are multiples of ``size_multiple``; without ``any_size`` they are the size of ``windows``, and
    without ``any_batch`` B is 1, because of ``reason``. ``sampling`` is the form of deformable upsampling. With
    the ``precision`` "int8" convolutions and matrix products have weights and activations of 8 bits.
    """

    format: ExportFormat
    file: FileName
    sha256: Hash
    further_files: dict[FileName, Hash] = {}
    input: str = "image"
    output: str = "logits"
    networks: Size
    maps: Size
    any_batch: bool
    any_size: bool
    size_multiple: tuple[Size, ...]
    reason: str | None = None
    opset: Size | None = None
    sampling: Literal["gather", "grid_sample"]
    precision: Literal["32", "int8"] = "32"


class ExportedNetwork(_Part):
    """One of the networks in the program: its run, the constructor's arguments, and its weights."""

    run: str
    name: str
    config: dict[str, Any]
    weights: Literal["final", "best"]
    sha256: Hash | None
    epochs: Annotated[int, Field(ge=0)]


class ImageContract(_Part):
    """The image (C, *S). Its axes are reordered and flipped to those nearest to RAS, or are (row, column).

    ``channels`` are in the order of the input, each with its normalisation; spacings are in mm. With ``grey_to_rgb`` an
    image of one channel is repeated for red, green and blue.
    """

    dims: Literal[2, 3]
    axes: Literal["RAS", "row, column"]
    channels: tuple[ChannelPlan, ...]
    grey_to_rgb: bool


class GridContract(_Part):
    """The way to the network's grid, on the axes of the image.

    The image is cropped to the box of voxels that are non-zero in some channel, grown by ``crop_margin`` voxels (null:
    not cropped), then interpolated linearly (outer edges aligned) to ``spacing`` in mm, or to the size ``resize``, and
    normalised, or normalised before interpolation with ``normalise_first``. A spacing within 1e-3 mm and 1 % is equal.
    """

    crop_margin: Annotated[int, Field(ge=0)] | None
    spacing: tuple[float, ...]
    resize: tuple[Size, ...] | None
    normalise_first: bool


class WindowsContract(_Part):
    """The windows, and the weights of their voxels: a Gaussian about the centre, ``sigma`` a fraction of a side.

    Neighbours overlap at least by the fraction ``overlap``. Windows are padded with zeros. Logits are averaged over all
    combinations of mirrorings along ``mirrored_axes``. With ``crop_to_nonzero`` only the box of voxels that are
    non-zero in some channel is computed; the rest is background.
    """

    size: tuple[Size, ...]
    overlap: Annotated[float, Field(ge=0, lt=1)]
    sigma: float = 0.125
    least_weight: float = 1e-3
    mirrored_axes: tuple[int, ...] = ()
    crop_to_nonzero: bool


class Bound(_Part):
    """The value above which ``map`` is predicted, and the label id that it gives."""

    name: str
    map: Annotated[int, Field(ge=0)]
    id: Size
    above: float


class Decision(_Part):
    """The rule for ids from the maps (K, *S), which are interpolated linearly to the image's grid before.

    Maps are the logits of the only network (``on`` "logits"), or the mean of the networks' probabilities by the
    ``activation``, which "foreground" and "classes" always use. "largest": the first largest map. "margin": id 1 where
    map 1 minus map 0 is above ``above``. "foreground": the largest map but the first where 1 minus map 0 is above
    ``above``, else 0. "classes": the largest of the maps with ``bounds`` that are above them, else the largest of the
    others. "regions": each of ``bounds`` in their order, the later over the earlier. ``threshold`` is the chosen
    probability, null for the usual rule.
    """

    kind: Literal["largest", "margin", "foreground", "classes", "regions"]
    activation: Literal["softmax", "sigmoid"]
    on: Literal["logits", "probabilities"]
    above: float | None = None
    bounds: tuple[Bound, ...] = ()
    threshold: float | dict[str, float] | None = None


class Label(_Part):
    """A label id, its value in mask files, its name and colour."""

    id: Annotated[int, Field(ge=0)]
    value: int
    name: str
    colour: str | None = None


class Structure(_Part):
    """A predicted class or region: the union of ``values`` in mask files; later ones are painted over earlier ones."""

    name: str
    values: tuple[int, ...]
    written_as: int


class Parity(_Part):
    """The comparison of the exported program with the network in PyTorch.

    ``logits`` is the largest difference of logits relative to the largest logit, over ``windows`` windows. ``dice`` is
    the mean Dice of the structures between the mask of this contract and that of ``deconvseg predict``, which differ in
    ``differing`` of ``voxels`` voxels; null for noise in place of a ``case``.
    """

    case: str | None
    windows: Size
    logits: Annotated[float, Field(ge=0)]
    dice: float | None = None
    differing: int | None = None
    voxels: int | None = None


class Quantisation(_Part):
    """The training cases that gave the ranges of a model in 8 bits, cut into ``windows``, and the Dice that it costs.

    ``dice_before`` is that of ``deconvseg predict`` and ``dice`` that of this contract, with the true masks: means over
    the structures and over ``cases``, validation cases of the run; null without such cases.
    """

    calibration: tuple[str, ...]
    windows: Size
    cases: tuple[str, ...] = ()
    dice_before: float | None = None
    dice: float | None = None


class Contract(_Part):
    """All that lies outside an exported network, so that a reader derives nothing.

    Example:
        >>> from deconvseg.integrations import Contract
        >>> sorted(Contract.model_json_schema()["properties"])[:4]
        ['contract', 'decision', 'image', 'labels']

    """

    contract: Literal["deconvseg export"] = "deconvseg export"
    version: Literal[1] = 1
    model: ExportedModel
    networks: tuple[ExportedNetwork, ...]
    image: ImageContract
    preprocessing: GridContract
    windows: WindowsContract
    decision: Decision
    labels: tuple[Label, ...]
    structures: tuple[Structure, ...]
    postprocessing: tuple[Step, ...] = ()
    parity: Parity | None = None
    quantisation: Quantisation | None = None
    versions: dict[str, str] = {}

    def write(self, folder: str | PathLike[str]) -> Path:
        """Write ``contract.json`` into a folder, after a check by the schema, and return its path."""
        tree = self.model_dump(mode="json")
        _parse(dump_json(tree), CONTRACT)
        path = Path(folder) / CONTRACT
        write_text(path, dump_json(tree) + "\n")
        return path


def read_contract(path: str | PathLike[str]) -> Contract:
    """Read and check ``contract.json`` of an export's folder (or the file itself), and the hashes of the model's files.

    Raises :class:`~deconvseg.errors.InputError` that names an unknown key, a wrong value, or a file of the model that
    is missing or changed.

    Example:
        >>> from deconvseg.integrations import read_contract
        >>> read_contract("SCANS")
        Traceback (most recent call last):
        deconvseg.errors.InputError: SCANS/contract.json does not exist; give the folder that ...

    """
    path = Path(path)
    file = path / CONTRACT if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{does_not_exist(file)}; give the folder that 'deconvseg export' made")
    read_json_object(file)
    contract = _parse(file.read_text(encoding="utf-8"), str(file))
    for name, digest in {contract.model.file: contract.model.sha256, **contract.model.further_files}.items():
        model = file.parent / name
        if not model.is_file():
            raise InputError(f"{model} is missing; copy the whole folder of the export again")
        if file_sha256(model) != digest:
            raise InputError(f"{model} is not the file of {file.name}, by its SHA-256; copy the folder again")
    return contract


def read_format(folder: Path) -> str:
    """Return the format of the export in a folder with a ``contract.json``, or words for a file of another kind."""
    model = read_json_object(folder / CONTRACT).get("model")
    found = model.get("format") if isinstance(model, dict) else None
    return found if isinstance(found, str) else f"another format (its {CONTRACT} names none)"


def _parse(text: str, where: str) -> Contract:
    try:
        return Contract.model_validate_json(text, strict=True)
    except ValidationError as error:
        entry = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")[0]
        key = ".".join(map(str, entry["loc"])) or "the file"
        told = {"extra_forbidden": "is not a key of a contract", "missing": "is missing"}.get(entry["type"])
        raise InputError(f"{where}: {key}: {told or entry['msg'].removeprefix('Value error, ')}") from error
