"""Environment of a run: versions, machine, command and commit."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import PurePath
from typing import Any

from deconvseg._version import __version__
from deconvseg.system import count_cores, package_version, processor_name, total_memory

_PACKAGES = ("torch", "numpy", "scipy", "nibabel", "monai", "lightning", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, thread count, accelerator, command line and git commit as JSON types."""
    import torch

    return {
        "deconvseg": __version__,
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": count_cores(),
            "memory_gb": round(total_memory() / 2**30, 1),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": shlex.join(shorten_path(argument) for argument in sys.argv),
        "git_commit": _git_commit(),
    }


def shorten_path(text: str) -> str:
    """Return a command line argument with its path (also after an option) reduced to the last component.

    So a shared run does not reveal folders and users of the machine that made it.
    """
    option, separator, value = text.partition("=") if text.startswith("-") else ("", "", text)
    if option and not separator:
        # A short option may contain its value, as in -o/home/me/run.
        option, value = (text[:2], text[2:]) if "/" in text[2:] or os.sep in text[2:] else (text, "")
    if "/" in value or os.sep in value:
        value = PurePath(value).name
    return f"{option}{separator}{value}"


def _git_commit() -> str | None:
    """Return the commit of the working directory if it is a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
