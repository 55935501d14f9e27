"""What is installed, what is missing, and how to get it."""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from deconvseg._version import __version__

_REQUIRED = (
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "pillow",
    "tifffile",
    "safetensors",
    "pydantic",
    "monai",
    "lightning",
)
_OPTIONAL = {
    "surface_distance": (
        "surface-distance",
        "checks NSD against its authors' package: pip install 'deconvseg[dev]'",
    )
}
# PyTorch 2.9.0 made mixed-precision 3D convolutions about four times slower (pytorch issue 166122).
_SLOW_TORCH = "2.9.0"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    found: str
    ok: bool
    required: bool
    advice: str = ""


def diagnose() -> list[Finding]:
    """Look at Python, packages, threads, accelerator and optional parts."""
    python = Finding("python", platform.python_version(), sys.version_info >= (3, 10), True)
    findings = [Finding("deconvseg", __version__, True, True), python]
    findings += [_package(name, True, f"pip install {name}") for name in _REQUIRED]
    if find_spec("torch") is not None:
        findings += _torch_findings()
    for module, (package, advice) in _OPTIONAL.items():
        missing = find_spec(module) is None
        findings.append(
            Finding(
                package,
                "missing" if missing else _version(package),
                not missing,
                False,
                advice if missing else "",
            )
        )
    return findings


def _torch_findings() -> list[Finding]:
    import psutil
    import torch

    threads, cores = torch.get_num_threads(), psutil.cpu_count(logical=False) or 1
    found = [
        Finding("threads", f"{threads} of PyTorch on {cores} cores", threads >= min(cores, 2) or cores == 1, False),
        Finding("memory", f"{psutil.virtual_memory().total / 2**30:.1f} GiB", True, False),
    ]
    if torch.cuda.is_available():
        found.append(Finding("GPU", torch.cuda.get_device_name(), True, False))
    elif torch.backends.mps.is_available():
        found.append(Finding("GPU", "Apple MPS", True, False))
    else:
        found.append(Finding("GPU", "none: everything runs on the CPU", True, False))
    if torch.__version__.split("+")[0] == _SLOW_TORCH:
        found.append(
            Finding(
                "torch version",
                _SLOW_TORCH,
                False,
                False,
                "slow 3D mixed precision: pip install 'torch!=2.9.0'",
            )
        )
    return found


def _package(name: str, required: bool, advice: str) -> Finding:
    version = _version(name)
    return Finding(name, version or "missing", version is not None, required, "" if version else advice)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
