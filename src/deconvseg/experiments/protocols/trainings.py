"""What a finished training was: its steps, its time, and the machine and version that made it."""

from __future__ import annotations

from typing import Any

from deconvseg.runs import Run


def describe_training(run: Run, fold: int) -> dict[str, Any]:
    """Return the steps and seconds of a training, and the processor, threads and versions that made it.

    The seconds are those of the training itself under whatever load the machine had. What is not recorded is "".
    """
    rows, manifest = run.metrics, run.manifest
    last, machine = rows[-1] if rows else {}, manifest.get("machine") or {}
    return {
        "fold": fold,
        "steps": last.get("step", ""),
        "seconds": round(last["seconds"], 1) if last.get("seconds") is not None else "",
        "processor": machine.get("accelerator") or machine.get("processor", ""),
        "threads": machine.get("threads", ""),
        "torch": (manifest.get("packages") or {}).get("torch", ""),
        "version": manifest.get("deconvseg", ""),
        "commit": str(manifest.get("git_commit") or "")[:12],
    }
