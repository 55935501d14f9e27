"""Installed and missing parts, and how to install them."""

import platform
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from deconvseg._version import __version__
from deconvseg.system import count_cores, package_version, total_memory

# PyTorch 2.9.0 made mixed-precision 3D convolutions about four times slower (pytorch issue 166122).
_SLOW_TORCH = "2.9.0"

# Releases that steal credentials on import (advisory GHSA-w37p-236h-pfx3, CVE-2026-44484). According to its
# maintainers, the same versions of the package pytorch-lightning were not affected.
_MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    found: str
    ok: bool
    required: bool
    advice: str = ""


def diagnose() -> list[Finding]:
    """Check Python, packages, threads, accelerator, kernels and optional parts."""
    python = Finding("python", platform.python_version(), sys.version_info >= (3, 10), True)
    findings = [Finding("deconvseg", __version__, True, True), python]
    required, extras = _dependencies()
    findings += [_package(name) for name in required]
    if find_spec("torch") is not None:
        findings += _torch_findings() + _kernel_findings()
    return findings + [_extra(name, packages) for name, packages in extras.items()]


def _dependencies() -> tuple[list[str], dict[str, list[str]]]:
    """Return the requirements in the metadata of this installation: the mandatory ones, and those of each extra."""
    required: list[str] = []
    extras: dict[str, list[str]] = defaultdict(list)
    for line in metadata.requires("deconvseg") or []:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](\w+)['\"]", line)
        if name and "python_version" not in line:
            (extras[extra[1]] if extra else required).append(name[0])
    return required, extras


def _torch_findings() -> list[Finding]:
    import torch

    threads, cores = torch.get_num_threads(), count_cores(physical=True) or 1
    found = [
        Finding("threads", f"{threads} of PyTorch on {cores} cores", threads >= min(cores, 2), False),
        Finding("memory", f"{total_memory() / 2**30:.1f} GiB", True, False),
    ]
    if torch.cuda.is_available():
        found.append(Finding("GPU", torch.cuda.get_device_name(), True, False))
    elif torch.backends.mps.is_available():
        found.append(Finding("GPU", "Apple MPS (used with --device mps)", True, False))
    else:
        found.append(Finding("GPU", "none: everything runs on the CPU", True, False))
    if torch.__version__.split("+")[0] == _SLOW_TORCH:
        found.append(
            Finding("torch version", _SLOW_TORCH, False, False, "slow 3D mixed precision: pip install 'torch!=2.9.0'")
        )
    return found


def _kernel_findings() -> list[Finding]:
    import torch

    from deconvseg.ops import native
    from deconvseg.ops.native.build import BuildError, find_compiler

    missing = native.unavailable()
    found = [Finding("native kernels", native.instruction_set() or "none", missing is None, False, missing or "")]
    if missing is None:
        lacking = native.why_no_bfloat16()
        found.append(Finding("bfloat16 kernels", f"none: {lacking}" if lacking else "avx512_bf16", True, False))
    try:
        compiler = str(find_compiler())
    except BuildError:
        compiler = ""
    found.append(Finding("compiler", compiler or "none", bool(compiler) or missing is None, False))
    version, gpu = package_version("triton"), torch.cuda.is_available()
    absent = "missing" if gpu else "missing: needed only on a GPU"
    advice = "GPU kernels: pip install triton (Linux)" if gpu and version is None else ""
    return [*found, Finding("triton", version or absent, version is not None or not gpu, False, advice)]


def _package(name: str) -> Finding:
    version = package_version(name)
    if version in _MALICIOUS.get(name, ()):
        advice = (
            f"this release steals credentials (GHSA-w37p-236h-pfx3): pip install '{name}!={version}', and replace the "
            "passwords, keys and tokens of this computer"
        )
        return Finding(name, f"{version}, MALICIOUS", False, True, advice)
    return Finding(name, version or "missing", version is not None, True, "" if version else f"pip install {name}")


def _extra(name: str, packages: list[str]) -> Finding:
    missing = [package for package in packages if package_version(package) is None]
    advice = f"pip install 'deconvseg[{name}]'" if missing else ""
    found = f"missing: {', '.join(missing)}" if missing else "present"
    return Finding(f"extra {name}", found, not missing, False, advice)
