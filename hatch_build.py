"""Adds the compiled kernels to a wheel where there is a compiler; without one the wheel is pure Python.

``DECONVSEG_NATIVE=0`` leaves them out.
"""

import importlib.util
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import mac_platforms, platform_tags

BUILD = "src/deconvseg/ops/native/build.py"


class NativeKernels(BuildHookInterface):
    """Compiles the kernels before hatchling packs a wheel or makes an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one for this platform if it carries a library."""
        if os.environ.get("DECONVSEG_NATIVE") == "0":
            self._say("left out, as DECONVSEG_NATIVE=0 asks")
            return
        build = _load(Path(self.root) / BUILD)
        try:
            compiler = build.find_compiler()
        except build.BuildError as error:
            self._say(f"left out: {error}")
            return
        if compiler.machine != build.machine_name(platform.machine()):
            self._say(f"left out: {compiler} builds for another machine than {platform.machine()}")
            return
        results = build.build(build.HERE, compiler)
        for instruction_set, failure in results.items():
            if isinstance(failure, build.BuildError):
                self._say(f"left out: {instruction_set}: {failure.first_line}")
        libraries = [result for result in results.values() if isinstance(result, Path)]
        if libraries:
            build_data["artifacts"] += [library.relative_to(self.root).as_posix() for library in libraries]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def _say(self, what: str) -> None:
        self.app.display_warning(f"native kernels {what}; `deconvseg doctor` tells more")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("deconvseg_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    target = os.environ.get("MACOSX_DEPLOYMENT_TARGET") if sys.platform == "darwin" else None
    if target:  # the compiler reads it, too: the library runs on that version, which may be older than this machine's
        major, minor = [*map(int, target.split(".")), 0][:2]
        return next(mac_platforms((major, minor), platform.machine()))
    # A library built here is not known to run on every Linux of a "manylinux" policy; auditwheel may say so later.
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
