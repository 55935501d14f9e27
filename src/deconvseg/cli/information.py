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
                "widths": list(p.network["widths"]),
                "spatial_dims": p.network["spatial_dims"],
                "parameters": p.parameters,
            }
            for key, p in PRESETS.items()
            if p.model == name
        }
        for name in list_models()
    }
    if json:
        print_json(listed)
        return
    for name, presets in listed.items():
        typer.echo(name)
        for key, facts in presets.items():
            sizes = ", ".join(f"kernel {k}: {n / 1e6:.2f} M" for k, n in facts["parameters"].items())
            typer.echo(f"  {key:8} {facts['spatial_dims']}D, widths {'-'.join(map(str, facts['widths']))}; {sizes}")


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
