"""``deconvseg nnunet``: networks of this package in nnU-Net v2."""

import shlex
from typing import TYPE_CHECKING, Any

import typer

from deconvseg.cli import importing, options
from deconvseg.cli.console import Terminal, echo, echo_path, loading
from deconvseg.cli.helping import Command, Group
from deconvseg.cli.tables import lay_out
from deconvseg.options.nnunet import NNUNetPlanOptions, NNUNetUpgradeOptions

if TYPE_CHECKING:
    from deconvseg.integrations.nnunet import NNUNetPlan

app = typer.Typer(
    help="Work with nnU-Net v2: plans for its own commands, DTC in its networks, trainers, runs of its models.",
    no_args_is_help=True,
    cls=Group,
)
app.command("import", cls=Command)(importing.import_nnunet)


@app.command(cls=Command)
@options.takes(NNUNetPlanOptions)
def plan(**asked: Any) -> None:
    """Write plans with which nnU-Net's own commands train, predict and evaluate a network of this package."""
    with loading():
        from deconvseg.integrations.nnunet import plan_for_nnunet

    made = plan_for_nnunet(**asked, console=Terminal())
    for line in _lines(made):
        echo(line)
    echo_path(made.file)


@app.command(cls=Command)
@options.takes(NNUNetUpgradeOptions)
def upgrade(**asked: Any) -> None:
    """Put DTC into a trained network of nnU-Net, to be trained further by nnUNetv2_train."""
    with loading():
        from deconvseg.integrations.nnunet import upgrade_nnunet

    made = upgrade_nnunet(**asked)
    for fold, checkpoint in made.checkpoints.items():
        start = f"nnUNetv2_train {made.number} {made.configuration} {fold} -p {made.plans}"
        echo(f"{start} -pretrained_weights {shlex.quote(str(checkpoint))}")
    echo_path(made.file)


@app.command(cls=Command)
def env() -> None:
    """Print the variable by which nnU-Net finds the trainers DeconverTrainer and DTCTrainer, for a shell."""
    from deconvseg.integrations.nnunet.environment import nnunet_environment

    for name, value in nnunet_environment().items():
        echo(f"export {name}={shlex.quote(value)}")


def _lines(made: "NNUNetPlan") -> list[str]:
    headings, rows = ["configuration", "network", "patch", "batch", "GPU memory"], []
    for entry in made.configurations:
        patch = " x ".join(map(str, entry.patch_size))
        rows.append([entry.name, entry.network, patch, str(entry.batch_size), f"{entry.gigabytes:g} GB"])
    lines = [*lay_out(headings, rows, None, left=2), ""]
    missing = [entry.name for entry in made.configurations if not entry.preprocessed]
    if missing:
        lines.append(f"nnUNetv2_preprocess -d {made.number} -plans_name {made.name} -c {' '.join(missing)}")
    if used := sorted({entry.data.name for entry in made.configurations if entry.preprocessed}):
        lines.append(f"cases that are preprocessed already: {', '.join(used)}")
    names = [entry.name for entry in made.configurations]
    first = "3d_fullres" if "3d_fullres" in names else names[0]
    lines.append(f"nnUNetv2_train {made.number} {first} 0 -p {made.name}")
    return lines
