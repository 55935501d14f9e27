"""What a run was made with: versions, machine, command, commit, and the hashes of its files."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from deconvseg._version import __version__

_PACKAGES = ("torch", "numpy", "scipy", "nibabel", "monai", "lightning", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, thread count, accelerator, command line and git commit, JSON-able."""
    import psutil
    import torch

    return {
        "deconvseg": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": psutil.cpu_count(logical=True),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": shlex.join(shorten_path(argument) for argument in sys.argv),
        "git_commit": _git_commit(),
    }


def shorten_path(text: str) -> str:
    """Return an argument with the path that it is, or that follows its option, cut down to the last name.

    A run that is shared names no folder and no user of the machine that made it.
    """
    option, separator, value = text.partition("=") if text.startswith("-") else ("", "", text)
    if option and not separator:
        # A short option may hold its value, as -o/home/me/run.
        option, value = (text[:2], text[2:]) if "/" in text[2:] or os.sep in text[2:] else (text, "")
    if "/" in value or os.sep in value:
        value = PurePath(value).name
    return f"{option}{separator}{value}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name, as Linux tells it, or what the platform module knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _git_commit() -> str | None:
    """Return the commit of the working directory, where it is a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
