"""Export of runs: the model, its contract, and for ONNX the script that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from deconvseg.data import Image
from deconvseg.errors import InputError
from deconvseg.inference import CONTRACT, Predictor, open_predictor
from deconvseg.integrations.exporting.contract import (
    Contract,
    ExportedModel,
    ExportFormat,
    Quantisation,
    read_format,
)
from deconvseg.integrations.exporting.costing import measure_cost
from deconvseg.integrations.exporting.describing import check_one_input, describe_network, make_contract
from deconvseg.integrations.exporting.parity import compare, find_sample, training_images
from deconvseg.integrations.exporting.programs import (
    Program,
    check_packages,
    choose_sampling,
    convert,
    convert_to_int8,
    save_weights,
)
from deconvseg.integrations.exporting.tracing import Members, Traced, trace
from deconvseg.models import Network
from deconvseg.options import ExportOptions, takes
from deconvseg.planning import Plan
from deconvseg.progress import choose_console
from deconvseg.runs import locate
from deconvseg.system import atomic_write, make_folder

SCRIPT = "run_onnx.py"


@takes(ExportOptions)
def export(asked: ExportOptions) -> Contract:
    """Write a trained network as a model for other software, with a contract of everything outside the network.

    ``runs`` are averaged as :func:`deconvseg.predict` does: one model gives the logits of all, and its reader the mean
    of their probabilities. The weights, the threshold and the post-processing are those of a prediction with the same
    options. ``output`` gets the model (``model.onnx``, ``model.xml`` and ``model.bin``, or ``model.pt2``),
    ``contract.json`` and, for ONNX, ``run_onnx.py``, which makes the masks with NumPy, nibabel and onnxruntime alone.
    A ``monai-bundle`` has the weights in ``models/model.pt`` and the configurations that ``monai.bundle`` runs.

    With ``int8``, OpenVINO's model is quantised to 8 bits by NNCF, on training cases of ``images``. It is calibrated
    once, where these are at hand, and its masks are compared like those of every export; besides, up to 12 validation
    cases with true masks are scored with the network and with its model in 8 bits (``quantisation`` of the contract).

    The model takes any batch and size if the network allows it. It is compared with the network before anything is
    written: on a case, whose mask by the contract is also compared with that of the prediction, or on noise. Returns
    the contract, which holds the result. Raises :class:`~deconvseg.errors.InputError` for runs that do not see the same
    windows, :class:`~deconvseg.errors.MissingPackageError` without the packages of the format, and
    :class:`~deconvseg.errors.DeconvsegError` if the network cannot be exported, or its model differs.

    Example:
        >>> import deconvseg
        >>> from deconvseg.integrations import read_contract
        >>> contract = deconvseg.export("RUN", "EXPORTED", format="torch-export", images="DATASET")
        >>> contract.model.any_size, contract.parity.case, contract.parity.dice > 0.99
        (True, 'disc4', True)
        >>> read_contract("EXPORTED") == contract
        True

    """
    output, console = Path(asked.output), choose_console(asked.console)
    if asked.int8 and asked.format != "openvino":
        raise InputError("`int8`: models in 8 bits are made for OpenVINO; give `format='openvino'` too")
    if asked.int8:
        # The work until NNCF is needed takes minutes.
        from deconvseg.integrations.openvino.quantising import import_nncf

        import_nncf()
    check_packages(asked.format)
    _check_folder(output, asked.format)
    given = [locate(run) for run in ([asked.runs] if isinstance(asked.runs, str | PathLike) else asked.runs)]
    for folder in given:
        if (folder / CONTRACT).is_file():
            raise InputError(f"{folder}: is an export; give the run that it was made from")
    opened = open_predictor(given, asked)
    for line in opened.lines:
        console.say(line)
    runs, predictor = opened.runs, opened.predictor
    check_one_input([str(run.path) for run in runs], predictor)
    which = [run.choose_weights(asked.weights) for run in runs]
    place = None if asked.images is None else Path(asked.images)
    sample = find_sample(runs, predictor, place, asked.case, console)
    images = training_images(runs[0], predictor, place) if asked.int8 else {}
    networks = [run.network(choice) for run, choice in zip(runs, which, strict=True)]
    network: Network | Members = networks[0] if len(networks) == 1 else Members(networks)
    sampling = asked.sampling or choose_sampling(asked.format, predictor.plan.spatial_dims)
    described = [describe_network(run, choice) for run, choice in zip(runs, which, strict=True)]
    quantised = None
    with console.track(f"exporting to {asked.format}", total=3) as tell:
        if asked.format == "monai-bundle":
            program, inputs = save_weights(network, described), _Inputs(True, network.fixed_size is None)
        else:
            traced = trace(network, predictor.windows[0], sampling=sampling)
            tell(1, "traced")
            if asked.int8:
                traced, program, quantised = _quantise(traced, predictor, images)
            else:
                program = convert(traced, asked.format)
            inputs = _Inputs(traced.any_batch, traced.any_size, traced.reason)
        tell(2, "converted")
        contract = make_contract(predictor, _describe(asked, inputs, program, networks, sampling), described)
        parity = compare(predictor, network, contract, program.compute, sample)
        tell(3, "compared")
    if quantised is not None:
        quantised = measure_cost(runs[0], predictor, contract, program.compute, place, quantised, console)
    contract = contract.model_copy(update={"parity": parity, "quantisation": quantised})
    further = _further_files(contract, predictor.plan)
    _write(output, {**program.files, **further}, contract)
    return contract


class _Inputs(NamedTuple):
    """The inputs that a model takes, and the reason why not all."""

    any_batch: bool
    any_size: bool
    reason: str | None = None


def _quantise(
    traced: Traced, predictor: Predictor, images: Mapping[str, Image]
) -> tuple[Traced, Program, Quantisation]:
    """Return a traced network for windows of one size alone, in 8 bits by the ranges on images, by case."""
    from deconvseg.integrations.openvino.quantising import calibration_windows

    size, windows = predictor.windows[0], calibration_windows(predictor.plan, list(images.values()))
    reason = f"8 bits are calibrated for windows of {' x '.join(map(str, size))}"
    quantised = Quantisation(calibration=tuple(images), windows=len(windows))
    return traced.of_one_size(size, reason), convert_to_int8(traced, windows), quantised


def _check_folder(output: Path, format: ExportFormat) -> None:
    """Refuse a folder of other things, whose files would be replaced or stay beside those of the export."""
    found = None
    if (output / "plan.json").exists():
        found = "is a run"
    elif output.exists() and not output.is_dir():
        found = "is a file"
    elif (output / CONTRACT).exists() and (known := read_format(output)) != format:
        found = f"holds an export to {known}, beside which none to {format} is written"
    if found is not None:
        raise InputError(f"{output}: {found}; choose another folder for the export (`output`)")


def _describe(
    asked: ExportOptions, inputs: _Inputs, program: Program, networks: list[Network], sampling: str
) -> ExportedModel:
    hashes = {name: sha256(content).hexdigest() for name, content in program.files.items()}
    (file, digest), *further = hashes.items()
    multiples = networks[0].size_multiple if len(networks) == 1 else Members(networks).size_multiple
    return ExportedModel(
        format=asked.format,
        file=file,
        sha256=digest,
        further_files=dict(further),
        networks=len(networks),
        maps=networks[0].out_channels,
        any_batch=inputs.any_batch,
        any_size=inputs.any_size,
        size_multiple=multiples,
        reason=inputs.reason,
        opset=program.opset,
        sampling=sampling,
        precision="int8" if asked.int8 else "32",
    )


def _further_files(contract: Contract, plan: Plan) -> dict[str, bytes]:
    """Return what a format has beside its model: the script of ONNX, the configurations of a bundle."""
    if contract.model.format == "onnx":
        return {SCRIPT: resources.files("deconvseg.integrations.onnx").joinpath(SCRIPT).read_bytes()}
    if contract.model.format == "monai-bundle":
        from deconvseg.integrations.monai.bundle import bundle_files

        return {name: text.encode() for name, text in bundle_files(contract, plan).items()}
    return {}


def _write(output: Path, files: Mapping[str, bytes], contract: Contract) -> None:
    """Write the files of the export, and last the contract, without which none is read."""
    make_folder(output)
    for name, content in files.items():
        with atomic_write(output / name) as temporary:
            temporary.write_bytes(content)
    contract.write(output)
