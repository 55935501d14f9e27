"""What the tests of the native kernels share."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deconvseg.ops.native.build import HERE, Compiler, build_library


@pytest.fixture(scope="session")
def built_library(pytestconfig: pytest.Config) -> Callable[[Compiler, str, Sequence[str]], Path]:
    """Build a library with extra flags; as that takes longer than the tests, keep it until a source changes."""
    sources = sorted(path for kind in ("*/*.cpp", "*/*.h", "*/build.py") for path in HERE.parent.glob(kind))

    def built(compiler: Compiler, instruction_set: str, flags: Sequence[str]) -> Path:
        version = b"\0".join([*(path.read_bytes() for path in sources), str(compiler).encode(), str(flags).encode()])
        assert pytestconfig.cache is not None
        kind = hashlib.sha256(str(flags).encode()).hexdigest()[:8]
        folder = pytestconfig.cache.mkdir(f"native-{instruction_set}-{kind}")
        library = folder / f"{hashlib.sha256(version).hexdigest()[:16]}.so"
        if not library.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            build_library(folder, compiler, instruction_set, flags).replace(library)
        return library

    return built
