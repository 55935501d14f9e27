"""``deconvseg models`` and ``deconvseg doctor``."""

import textwrap
from typing import Annotated

import typer

from deconvseg.cli import options
from deconvseg.cli.console import echo, print_json, warn
from deconvseg.text import number_of
from deconvseg.units import format_bytes


def models(
    name: Annotated[str | None, typer.Argument(help="Show the arguments and presets of this network.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List the trained models of installed packages instead.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the networks and their presets, or trained models."""
    if pretrained:
        _list_pretrained(json)
        return
    from deconvseg.catalog import PRESETS
    from deconvseg.errors import check_choice
    from deconvseg.models import describe_model, list_arguments, list_models
    from deconvseg.nn import describe_upsampling
    from deconvseg.text import plain_documentation

    if name is not None:
        check_choice(name, list_models(), "model")
    listed = {
        name: {
            key: {
                "arguments": preset.arguments(name),
                "variants": {
                    title: {"parameters": variant.parameters, "arguments": variant.arguments}
                    for title, variant in preset.variants.items()
                    if variant.model == name
                },
            }
            for key, preset in PRESETS.items()
            if name in preset.networks
        }
        for name in ([name] if name else list_models())
    }
    if json:
        print_json(listed)
        return
    for model, presets in listed.items():
        description = plain_documentation(describe_model(model))
        typer.echo(
            f"{model}\n{textwrap.indent(description, '  ')}" if name else f"{model}: {description.splitlines()[0]}"
        )
        if name and "upsampling" in list_arguments(model):
            typer.echo(f"\n{textwrap.indent(describe_upsampling(), '  ')}\n")
        for key, facts in presets.items():
            typer.echo(f"  {key:8} {facts['arguments']['spatial_dims']}D")
            for title, variant in facts["variants"].items():
                changed = variant["arguments"].items()
                own = changed <= facts["arguments"].items()
                told = "; the preset itself" if own else ": " + ", ".join(f"{key}={value}" for key, value in changed)
                typer.echo(f"    {variant['parameters'] / 1e6:7.2f} M  {title}{told}")
    if not name:
        typer.echo("\nAll arguments of a network: deconvseg models NAME")


def _list_pretrained(json: bool) -> None:
    """Print the models that ``predict -m pretrained:NAME`` takes."""
    from deconvseg.errors import InputError
    from deconvseg.runs import list_pretrained, read_packed

    installed, found = list_pretrained(), {}
    for name, file in installed.items():
        try:
            found[name] = read_packed(file)
        except InputError as problem:
            warn(f"pretrained:{name}: {problem}")
    if json:
        print_json({name: package.model_dump(mode="json") for name, package in found.items()})
        return
    if not installed:
        echo("no pretrained models are installed; install deconvseg-weights (in the repository: pip install ./weights)")
    for name, package in found.items():
        dice = [score for score in package.scores if score.metric == "Dice"]
        scored = "not scored"
        if dice:
            interval = "" if dice[-1].ci95 is None else " (95 % CI {:.3f} to {:.3f})".format(*dice[-1].ci95)
            cases = number_of(dice[-1].cases, f"{package.scored_on} case")
            scored = f"Dice of {dice[-1].structure} {dice[-1].mean:.3f}{interval} on {cases}"
        folds = f"{number_of(package.folds, 'fold')}, " if package.folds else ""
        echo(f"pretrained:{name}: {scored}; {folds}{format_bytes(package.bytes)} in {package.stored}")


def doctor(json: options.Json = False) -> None:
    """Check this installation: versions, threads, accelerator, optional parts and how to install them."""
    from deconvseg.cli.diagnosis import diagnose

    findings = diagnose()
    if json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            advice = f"  → {finding.advice}" if finding.advice else ""
            typer.echo(f"{'ok ' if finding.ok else '-- '} {finding.name:14} {finding.found}{advice}")
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)
