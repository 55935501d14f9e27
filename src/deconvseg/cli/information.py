"""``deconvseg models`` and ``deconvseg doctor``."""

import typer

from deconvseg.cli import options
from deconvseg.cli.console import print_json


def models(json: options.Json = False) -> None:
    """List the networks and their presets."""
    from deconvseg.catalog import PRESETS
    from deconvseg.models import list_models

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
        for name in list_models()
    }
    if json:
        print_json(listed)
        return
    for name, presets in listed.items():
        typer.echo(name)
        for key, facts in presets.items():
            typer.echo(f"  {key:8} {facts['arguments']['spatial_dims']}D")
            for title, variant in facts["variants"].items():
                changed = ", ".join(f"{argument}={value}" for argument, value in variant["arguments"].items())
                typer.echo(f"    {variant['parameters'] / 1e6:7.2f} M  {title}{f' ({changed})' if changed else ''}")


def doctor(json: options.Json = False) -> None:
    """Tell what this installation can do: versions, threads, accelerator, optional parts and how to get them."""
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
