"""``deconvseg export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, loading, print_json
from deconvseg.errors import InputError
from deconvseg.options import ExportOptions, declared_options
from deconvseg.text import number_of

if TYPE_CHECKING:
    from deconvseg.integrations import Contract

_OTHERS = tuple(name for name, _, _ in declared_options(ExportOptions) if name not in ("runs", "output"))


@options.takes(ExportOptions, *_OTHERS)
def export(
    runs: Annotated[list[str] | None, typer.Argument(help="A run or cross-validation; several are averaged.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the model, its contract and the script.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a contract and exit.")] = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Write a trained network for ONNX Runtime, OpenVINO or PyTorch, with a contract of all that is outside of it.

    The model is compared with the network, on a case if its image is at hand, before anything is written.
    """
    with loading():
        from deconvseg import integrations

    if schema:
        print_json(integrations.Contract.model_json_schema())
        return
    if not runs or output is None:
        raise InputError("give a run, and a folder for its export as -o")
    contract = integrations.export(runs, output, **asked, console=Terminal())
    if json:
        print_json(contract.model_dump(mode="json"))
        return
    for line in _lines(contract):
        echo(line)
    echo_path(output)


def _lines(contract: "Contract") -> list[str]:
    model, parity = contract.model, contract.parity
    size = " x ".join(map(str, contract.windows.size))
    multiples = " x ".join(map(str, model.size_multiple))
    sizes = f"every size of multiples of {multiples}" if model.any_size else f"the size {size} only"
    batch = "any batch" if model.any_batch else "batches of 1"
    kept = "" if model.reason is None else f" ({model.reason})"
    lines = [f"{model.file}: takes {batch} and {sizes}{kept}"]
    if model.networks > 1:
        lines.append(f"{model.networks} networks: the mask is that of the mean of their probabilities")
    if parity is not None:
        where = "noise" if parity.case is None else parity.case
        text = f"compared with the network on {where}: logits differ by {parity.logits:.1g} of the largest"
        if parity.dice is not None:
            text += f"; masks: Dice {parity.dice:.4f}, {parity.differing:,} of {parity.voxels:,} voxels differ"
        lines.append(text)
    if (quantised := contract.quantisation) is not None:
        text = f"8 bits: calibrated on {number_of(len(quantised.calibration), 'training case')}"
        if quantised.dice is not None and quantised.dice_before is not None:
            cases = number_of(len(quantised.cases), "validation case")
            text += f"; mean Dice of {cases}: {quantised.dice:.4f}, {quantised.dice_before:.4f} before"
        lines.append(text)
    return lines
